//go:build linux

package load

import (
	"strings"
	"testing"

	"parley/wire"
)

func crashPlan(s *fake, n int) CrashPlan {
	p := CrashPlan{Target: s.target(), Window: 8, Bytes: 40, Seed: 1}
	for i := range n {
		p.Users = append(p.Users, account(i+1))
	}
	return p
}

// play lets users write until each has some messages, while connections break, and stops.
func play(t *testing.T, s *fake, c *conductor) CrashResult {
	t.Helper()
	c.job("crash", crashPlan(s, 4))
	c.must("connect", nil, nil)
	c.must("go", nil, nil)
	var r CrashResult
	for round := uint64(1); round <= 5; round++ {
		for r.Acked < 100*round {
			c.must("counts", nil, &r)
		}
		if round%2 == 0 {
			s.drop()
		} else {
			c.must("drop", DropPlan{Connections: 2}, nil)
		}
	}
	c.must("stop", nil, &r)
	return r
}

func TestCrashFindsNothingWhenAllIsKept(t *testing.T) {
	s := startFake(t)
	c := startWorker(t)
	r := play(t, s, c)
	if r.Acked != r.Sent || r.Resent == 0 || r.Welcomes < 8 || r.Receipts == 0 {
		t.Errorf("%+v", r)
	}
	c.must("verify", nil, &r)
	if r.Lost+r.Doubled+r.Gaps+r.Backwards+r.Complaints.Errors != 0 || r.Verified != 2*r.Acked {
		t.Errorf("%+v", r)
	}
	c.must("verify", nil, &r)
	if r.Verified != 2*r.Acked {
		t.Errorf("the second time: %+v", r)
	}
}

func TestCrashFindsWhatTheServerDid(t *testing.T) {
	first := wire.DirectConversation(1, 2)
	for name, test := range map[string]struct {
		spoil func(c *fakeConversation)
		found func(r *CrashResult) bool
	}{
		"the last message is gone": {
			func(c *fakeConversation) { c.messages = c.messages[:len(c.messages)-1] },
			func(r *CrashResult) bool { return r.Lost >= 1 && r.Doubled == 0 && r.Gaps == 0 },
		},
		"a sequence is left out": {
			func(c *fakeConversation) {
				c.messages = append(c.messages[:2], c.messages[3:]...)
			},
			func(r *CrashResult) bool { return r.Lost >= 1 && r.Gaps == 1 },
		},
		"a message is there twice": {
			func(c *fakeConversation) {
				m := c.messages[1]
				m.Sequence = uint64(len(c.messages)) + 1
				m.Revision = m.Sequence
				c.messages = append(c.messages, m)
			},
			func(r *CrashResult) bool { return r.Doubled == 1 && r.Lost == 0 && r.Gaps == 0 },
		},
		"two messages changed places": {
			func(c *fakeConversation) {
				a, b := &c.messages[0], &c.messages[1]
				a.Content, b.Content = b.Content, a.Content
				a.Author, b.Author = b.Author, a.Author
			},
			func(r *CrashResult) bool { return r.Lost == 2 },
		},
		"a text changed": {
			func(c *fakeConversation) { c.messages[0].Content.Bytes[20] ^= 1 },
			func(r *CrashResult) bool { return r.Complaints.Errors > 0 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startFake(t)
			c := startWorker(t)
			play(t, s, c)
			s.mu.Lock()
			test.spoil(s.conversations[first])
			s.mu.Unlock()
			var r CrashResult
			c.must("verify", nil, &r)
			if !test.found(&r) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestCrashNoticesReceiptsThatGoBack(t *testing.T) {
	s := startFake(t)
	s.mu.Lock()
	s.forgets = true
	s.mu.Unlock()
	c := startWorker(t)
	c.job("crash", crashPlan(s, 3))
	c.must("connect", nil, nil)
	c.must("go", nil, nil)
	var r CrashResult
	for r.Backwards == 0 {
		c.must("counts", nil, &r)
	}
	if !strings.Contains(r.Complaints.First, "went back") {
		t.Error(r.Complaints.First)
	}
}
