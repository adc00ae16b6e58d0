//go:build linux

package load

import (
	"testing"

	"parley/wire"
)

func TestSyncAsksForWhatHasChanged(t *testing.T) {
	s := startFake(t)
	c := startWorker(t)
	c.job("sync", SyncPlan{Target: s.target(), User: account(1), Others: []wire.ID{2, 3, 4}, Bytes: 20})
	c.must("connect", nil, nil)
	var r SyncResult
	c.must("sync", SyncRounds{Rounds: 5}, &r)
	if r.Conversations != 15 || r.Frames != 5 || r.Bytes == 0 || r.Time == nil || string(r.Token) != "token" {
		t.Errorf("everything: %+v", r)
	}
	c.must("sync", SyncRounds{Rounds: 2, Token: r.Token}, &r)
	if r.Conversations != 0 || r.Frames != 2 {
		t.Errorf("nothing: %+v", r)
	}
	c.must("change", ChangePlan{Conversations: 2}, nil)
	c.must("sync", SyncRounds{Rounds: 1}, &r)
	if r.Conversations != 3 {
		t.Errorf("after a change: %+v", r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for peer, want := range map[wire.ID]int{2: 2, 3: 2, 4: 1} {
		if n := len(s.conversation(wire.DirectConversation(1, peer)).messages); n != want {
			t.Errorf("%d messages to %d, want %d", n, peer, want)
		}
	}
}

func TestASyncThatCannotBeIsRefused(t *testing.T) {
	s := startFake(t)
	c := startWorker(t)
	c.job("sync", SyncPlan{Target: s.target(), User: account(1), Others: []wire.ID{2}, Bytes: 20})
	c.must("connect", nil, nil)
	for what, plan := range map[string]any{"change": ChangePlan{Conversations: 2}, "sync": SyncRounds{}, "dance": nil} {
		if err := c.ask(what, plan, nil); err == nil {
			t.Errorf("%s with %+v is taken", what, plan)
		}
	}
	if err := startWorker(t).ask("job", JobPlan{Kind: "sync", Plan: []byte(`{}`)}, nil); err == nil {
		t.Error("no conversations are enough")
	}
}
