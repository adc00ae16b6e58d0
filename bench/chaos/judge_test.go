//go:build linux

package chaos

import (
	"context"
	"fmt"
	"strings"
	"time"

	"parley/bench/sim"
	"parley/wire"
	"parley/wire/client"
)

// rest lets the people come to rest: they write no more, every send has its outcome, and
// every device has everything. What does not come in time is part of the history.
func (w *crowd) rest(c *cluster) error {
	close(w.quiet)
	for end := time.Now().Add(patience); time.Now().Before(end) && !w.answered(); {
		time.Sleep(poll)
	}
	finals, err := w.judge(c, "after healing", nil)
	if err != nil {
		return err
	}
	heads := make(map[wire.ID]map[wire.Conversation]uint64)
	for _, f := range finals {
		if heads[f.User] == nil {
			heads[f.User] = make(map[wire.Conversation]uint64)
		}
		heads[f.User][f.Conversation] = f.State.Head
	}
	var online []sim.Online
	served := false
	for end := time.Now().Add(patience); time.Now().Before(end) && !served; time.Sleep(poll) {
		served, online = true, nil
		for _, p := range w.people {
			o := p.online()
			for conversation, head := range heads[p.user] {
				if o.Reached[conversation] < head {
					o.Problems = append(o.Problems, fmt.Sprintf("%x-%x: it has %d of %d", uint64(conversation.A), uint64(conversation.B), o.Reached[conversation], head))
				}
			}
			served = served && len(o.Problems) == 0
			online = append(online, o)
		}
	}
	w.recorder.Add(func(h *sim.History) { h.Online = online })
	return nil
}

// judge reads everything as each user, through one node or whichever there is.
func (w *crowd) judge(c *cluster, stage string, through *node) ([]sim.Final, error) {
	c.log("everything is read %s", stage)
	var finals []sim.Final
	for _, p := range w.judges {
		var err error
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(poll) {
			var list []sim.Final
			if list, err = p.judge(stage, through); err == nil {
				finals = append(finals, list...)
				break
			}
		}
		if err != nil {
			return nil, fmt.Errorf("chaos: %s cannot read %s: %w", p.name, stage, err)
		}
	}
	w.recorder.Add(func(h *sim.History) { h.Finals = append(h.Finals, finals...) })
	return finals, nil
}

// judge reads all conversations of a user from their beginnings.
func (p *person) judge(stage string, through *node) ([]sim.Final, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := p.recorder.Now()
	o, err := p.options()
	if err != nil {
		return nil, err
	}
	o.ManualDelivered = true
	if through != nil {
		o.Address = "ws://" + through.place.clients
	}
	c, err := client.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	live := make(chan struct{})
	go func() {
		for e := range c.Events() {
			if e, ok := e.(*client.ConnectionEvent); ok && e.State == client.Live {
				closeOnce(live)
			}
		}
	}()
	select {
	case <-live:
	case <-ctx.Done():
		return nil, fmt.Errorf("chaos: it does not become live: %w", ctx.Err())
	}
	var finals []sim.Final
	for _, state := range c.Conversations() {
		f := sim.Final{Stage: stage, At: began, User: p.user, Conversation: state.Ref.Conversation(p.user), State: state}
		for more := true; more; {
			after := uint64(0)
			if n := len(f.Entries); n > 0 {
				after = f.Entries[n-1].Sequence
			}
			page, err := c.History(ctx, wire.History{Ref: state.Ref, Sequence: after, Mode: wire.HistoryForward, Limit: 100})
			if err != nil {
				return nil, err
			}
			f.Entries = append(f.Entries, sim.EntriesOf(&page)...)
			more = page.Flags&wire.PageMoreAfter != 0 && len(page.Messages) > 0
		}
		finals = append(finals, f)
	}
	return finals, nil
}

// verdict is all that the history holds against the cluster; empty if nothing.
func verdict(h *sim.History) string {
	violations := sim.Check(h)
	if len(violations) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d violations\n", len(violations))
	for i, v := range violations {
		if i == 20 {
			fmt.Fprintf(&b, "and %d more\n", len(violations)-i)
			break
		}
		fmt.Fprintln(&b, v)
	}
	h.Tell(&b, violations[0].Conversation)
	return b.String()
}
