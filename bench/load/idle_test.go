//go:build linux

package load

import (
	"strings"
	"testing"
)

func idlePlan(s *fake, n int) IdlePlan {
	p := IdlePlan{Target: s.target(), AtOnce: 8}
	for i := range n {
		p.Accounts = append(p.Accounts, account(i+1))
	}
	return p
}

func TestIdleSessionsConnectSyncAndComeBack(t *testing.T) {
	s := startFake(t)
	c := startWorker(t)
	c.job("idle", idlePlan(s, 100))
	var r IdleResult
	for _, tickets := range []bool{false, true} {
		c.must("connect", ConnectPlan{Tickets: tickets}, &r)
		if r.Live != 100 || r.Synced != 0 || r.Connect == nil {
			t.Fatalf("connected: %+v", r)
		}
		c.must("sync", nil, &r)
		if r.Live != 100 || r.Synced != 100 {
			t.Fatalf("synced: %+v", r)
		}
		c.must("close", nil, &r)
		if r.Live != 0 || r.Complaints.Errors > 0 {
			t.Fatalf("closed: %+v", r)
		}
	}
}

func TestIdleSessionsSendHeartbeats(t *testing.T) {
	s := startFake(t)
	s.mu.Lock()
	s.heartbeat = 1
	s.mu.Unlock()
	c := startWorker(t)
	c.job("idle", idlePlan(s, 5))
	c.must("connect", ConnectPlan{}, nil)
	for r := (IdleResult{}); r.Pongs < 5; {
		c.must("counts", nil, &r)
	}
}

func TestIdleSessionsThatEndAreToldOf(t *testing.T) {
	s := startFake(t)
	c := startWorker(t)
	plan := idlePlan(s, 10)
	plan.Accounts[9].Token = "nobody"
	c.job("idle", plan)
	if err := c.ask("connect", ConnectPlan{}, nil); err == nil || !strings.Contains(err.Error(), "UNAUTHENTICATED") {
		t.Errorf("one token of ten is bad: %v", err)
	}
	c.job("idle", idlePlan(s, 10))
	c.must("connect", ConnectPlan{}, nil)
	s.drop()
	for r := (IdleResult{}); r.Complaints.Errors < 10; {
		c.must("counts", nil, &r)
	}
}
