//go:build linux

package load

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"parley/wire"
)

// fakeGroup is the one group of a fake.
type fakeGroup struct {
	head    uint64
	members []wire.ID
}

const fakeGroupID = 99

// change makes the group or adds members to it.
func (c *fakeSession) change(f wire.Frame) {
	g, err := wire.ParseGroupChange(f)
	if err != nil {
		return
	}
	event, err := wire.ParseEvent(g.Event)
	if err != nil {
		return
	}
	group := &c.server.group
	if event.Kind == wire.EventCreate {
		*group = fakeGroup{head: 1, members: []wire.ID{c.user}}
		c.write(wire.AppendCreated(nil, &wire.Created{Correlation: g.Correlation, Ref: wire.GroupRef(fakeGroupID), Sequence: 1}))
		return
	}
	group.members = append(group.members, event.Users...)
	c.say(g.Correlation, wire.EventContent(g.Event))
}

// say appends a message to the group and pushes it.
func (c *fakeSession) say(correlation uint64, content wire.Content) {
	s := c.server
	s.group.head++
	c.write(wire.AppendSent(nil, &wire.Sent{Correlation: correlation, Sequence: s.group.head}))
	push := wire.AppendMessage(nil, &wire.Message{Ref: wire.GroupRef(fakeGroupID), Sequence: s.group.head, Revision: s.group.head,
		Author: c.user, Content: wire.Content{Extended: content.Extended, Bytes: slices.Clone(content.Bytes)}})
	for i, user := range s.group.members {
		member := s.sessions[user]
		if member == nil || member == c || s.group.head == s.loses && i == len(s.group.members)-1 {
			continue
		}
		member.write(push)
	}
}

func groupPlan(s *fake, online, away int) GroupPlan {
	p := GroupPlan{Nodes: []Target{s.target()}, Window: 4, Bytes: 20, AtOnce: 2, Receipts: true}
	for i := range online + 1 {
		p.Accounts = append(p.Accounts, account(i+1))
	}
	for i := range away {
		p.Away = append(p.Away, wire.ID(1000+i))
	}
	return p
}

func TestAGroupReachesEverybody(t *testing.T) {
	s := startFake(t)
	c := startWorker(t)
	c.job("group", groupPlan(s, 5, 300))
	c.must("connect", nil, nil)
	s.mu.Lock()
	members := len(s.group.members)
	s.mu.Unlock()
	if members != 306 {
		t.Fatalf("%d members", members)
	}
	c.must("go", nil, nil)
	c.must("mark", nil, nil)
	var counts GroupCounts
	for counts.Complete < 50 || counts.Cursors == 0 {
		c.must("counts", nil, &counts)
	}
	var r GroupResult
	c.must("measured", nil, &r)
	var complaints Complaints
	c.must("stop", nil, &complaints)
	if r.Ack == nil || r.Deliver == nil || r.LastMember == nil || complaints.Errors != 0 {
		t.Errorf("%+v, %+v", r, complaints)
	}
	c.must("counts", nil, &counts)
	if counts.Acked != counts.Sent || counts.Complete != counts.Sent || counts.Delivered != 5*counts.Sent || counts.Moved > counts.Delivered+5*5 {
		t.Errorf("%+v", counts)
	}
}

func TestAGroupNoticesWhatIsMissing(t *testing.T) {
	s := startFake(t)
	s.mu.Lock()
	s.loses = 9 // after the creation and one change: the seventh message
	s.mu.Unlock()
	c := startWorker(t)
	c.job("group", groupPlan(s, 3, 0))
	c.must("connect", nil, nil)
	c.must("go", nil, nil)
	var r GroupResult
	for r.Complaints.Errors == 0 {
		c.must("measured", nil, &r)
	}
	if !strings.Contains(r.Complaints.First, "MESSAGE") || r.Counts.Complete > 7 {
		t.Errorf("%+v", r)
	}
}

func TestAGroupPlanIsChecked(t *testing.T) {
	s := startFake(t)
	for name, change := range map[string]func(p *GroupPlan){
		"nobody":    func(p *GroupPlan) { p.Accounts = p.Accounts[:1] },
		"window 0":  func(p *GroupPlan) { p.Window = 0 },
		"window 65": func(p *GroupPlan) { p.Window = groupWindowMax + 1 },
		"no node":   func(p *GroupPlan) { p.Nodes = nil },
		"at once 0": func(p *GroupPlan) { p.AtOnce = 0 },
	} {
		p := groupPlan(s, 2, 0)
		change(&p)
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := startWorker(t).ask("job", JobPlan{Kind: "group", Plan: raw}, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
