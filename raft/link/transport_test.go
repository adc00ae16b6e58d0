package link

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	hraft "github.com/hashicorp/raft"

	"parley/raft"
)

var (
	_ raft.Transport     = (*transport)(nil)
	_ hraft.WithPreVote  = (*transport)(nil)
	_ hraft.AppendFuture = (*appendFuture)(nil)
)

// pair are the transports of one group on hubs 1 and 2.
func pair(t testing.TB, hubs []*Hub, group uint32) (a, b *transport) {
	t.Helper()
	var both []*transport
	for i, h := range hubs[:2] {
		x, err := h.Network().Transport(group, fmt.Sprintf("n%d", i+1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		both = append(both, x.(*transport))
	}
	return both[0], both[1]
}

// answering makes a replica that answers everything with what fn gives.
func answering(t *transport, fn func(command any) (any, error)) (stop func()) {
	var running sync.WaitGroup
	end := make(chan struct{})
	running.Go(func() {
		for {
			select {
			case rpc := <-t.Consumer():
				rpc.Respond(fn(rpc.Command))
			case <-end:
				return
			}
		}
	})
	return func() {
		close(end)
		running.Wait()
	}
}

func accept(any) (any, error) { return &hraft.AppendEntriesResponse{Term: 3, Success: true}, nil }

func heartbeatOf(term uint64) *hraft.AppendEntriesRequest {
	h := hraft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1"), Addr: []byte("n1")}
	return &hraft.AppendEntriesRequest{RPCHeader: h, Term: term, Leader: []byte("n1")}
}

func TestQuestionsOfRaftArriveWholeAndAreAnswered(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		a, b := pair(t, w.mesh(2), 5)
		header := hraft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1"), Addr: []byte("n1")}
		appended := &hraft.AppendEntriesRequest{
			RPCHeader: header, Leader: []byte("n1"), Term: 300, PrevLogEntry: 41, PrevLogTerm: 299, LeaderCommitIndex: 40,
			Entries: []*hraft.Log{
				{Index: 42, Term: 300, Type: hraft.LogCommand, Data: []byte("data"), Extensions: []byte("x")},
				{Index: 43, Term: 299, Type: hraft.LogConfiguration, Data: []byte{}},
				{Index: 50, Term: 300, Type: hraft.LogNoop},
			},
		}
		vote := &hraft.RequestVoteRequest{RPCHeader: header, Candidate: []byte("n1"), Term: 7, LastLogIndex: 1 << 40, LastLogTerm: 6, LeadershipTransfer: true}
		preVote := &hraft.RequestPreVoteRequest{RPCHeader: header, Term: 8, LastLogIndex: 9, LastLogTerm: 7}
		now := &hraft.TimeoutNowRequest{RPCHeader: header}
		var got []any
		stop := answering(b, func(command any) (any, error) {
			got = append(got, command)
			switch command.(type) {
			case *hraft.AppendEntriesRequest:
				return &hraft.AppendEntriesResponse{Term: 301, LastLog: 44, NoRetryBackoff: true}, nil
			case *hraft.RequestVoteRequest:
				return &hraft.RequestVoteResponse{Term: 7, Granted: true}, nil
			case *hraft.RequestPreVoteRequest:
				return &hraft.RequestPreVoteResponse{Term: 9}, errors.New("the log is broken")
			}
			return &hraft.TimeoutNowResponse{}, nil
		})
		var ar hraft.AppendEntriesResponse
		if err := a.AppendEntries("n2", "n2", appended, &ar); err != nil || ar.Term != 301 || ar.LastLog != 44 || ar.Success || !ar.NoRetryBackoff {
			t.Errorf("AppendEntries: %+v, %v", ar, err)
		}
		var vr hraft.RequestVoteResponse
		if err := a.RequestVote("n2", "n2", vote, &vr); err != nil || vr.Term != 7 || !vr.Granted {
			t.Errorf("RequestVote: %+v, %v", vr, err)
		}
		var pr hraft.RequestPreVoteResponse
		if err := a.RequestPreVote("n2", "n2", preVote, &pr); !errors.Is(err, errNotThere) || !strings.Contains(err.Error(), "the log is broken") {
			t.Errorf("RequestPreVote: %+v, %v", pr, err)
		}
		if err := a.TimeoutNow("n2", "n2", now, &hraft.TimeoutNowResponse{}); err != nil {
			t.Errorf("TimeoutNow: %v", err)
		}
		stop()
		appended.Entries[1].Data = nil // empty and absent are the same
		for i, want := range []any{appended, vote, preVote, now} {
			if i >= len(got) || !reflect.DeepEqual(got[i], want) {
				t.Errorf("question %d is %+v, want %+v", i, got[i], want)
			}
		}
	})
}

func TestHeartbeatsRideAlongAndProbesDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		a, b := pair(t, w.mesh(2), 5)
		var beats int
		b.SetHeartbeatHandler(func(rpc hraft.RPC) {
			beats++
			rpc.Respond(&hraft.AppendEntriesResponse{Term: 3, Success: true}, nil)
		})
		stop := answering(b, accept)
		defer stop()
		took := func(send func(hraft.ServerID, hraft.ServerAddress, *hraft.AppendEntriesRequest, *hraft.AppendEntriesResponse) error) time.Duration {
			began := time.Now() // of the bubble, where only waiting takes time
			var r hraft.AppendEntriesResponse
			if err := send("n2", "n2", heartbeatOf(3), &r); err != nil || !r.Success {
				t.Errorf("%+v, %v", r, err)
			}
			return time.Since(began)
		}
		// The first is of a term that the replica was not in: it may have to write it down, and
		// goes where such things are done.
		if took(a.AppendEntries); beats != 0 {
			t.Error("a new term was handled among other groups' messages")
		}
		if d := took(a.AppendEntries); d != beatInterval || beats != 1 {
			t.Errorf("a heartbeat took %v, and %d were handled past the queue", d, beats)
		}
		if d := took(a.Probe); d != 0 || beats != 2 {
			t.Errorf("a probe took %v", d)
		}
		// With others on the way it does not wait.
		var sending sync.WaitGroup
		sending.Go(func() { took(a.AppendEntries) })
		time.Sleep(time.Millisecond)
		if d := took(a.Probe); d != 0 {
			t.Errorf("a probe beside a heartbeat took %v", d)
		}
		sending.Wait()
	})
}

func TestHeartbeatsOfManyGroupsShareAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const groups = 100
		w := newWorld(t, false)
		hubs := w.mesh(2)
		var all []*transport
		for g := range uint32(groups) {
			a, b := pair(t, hubs, g)
			b.SetHeartbeatHandler(func(rpc hraft.RPC) { rpc.Respond(accept(nil)) })
			b.term.Store(3)
			all = append(all, a)
		}
		beat := func() {
			var sending sync.WaitGroup
			for _, a := range all {
				sending.Go(func() { _ = a.AppendEntries("n2", "n2", heartbeatOf(3), &hraft.AppendEntriesResponse{}) })
			}
			sending.Wait()
		}
		beat() // with the routes
		time.Sleep(beatInterval)
		before := [2]Stats{hubs[0].Stats(), hubs[1].Stats()}
		beat()
		after := [2]Stats{hubs[0].Stats(), hubs[1].Stats()}
		if n := after[0].Writes + after[1].Writes - before[0].Writes - before[1].Writes; n > 4 {
			t.Errorf("%d writes for %d heartbeats and their answers", n, groups)
		}
		if n := (after[0].BytesOut - before[0].BytesOut) / groups; n > 16 {
			t.Errorf("%d bytes a heartbeat", n)
		}
	})
}

func TestAReplicaThatDoesNotAnswerHoldsUpNobodyElse(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		hubs := w.mesh(2)
		slow, stuck := pair(t, hubs, 5)
		fast, quick := pair(t, hubs, 6)
		stop := answering(quick, accept)
		defer stop()
		hubs[1].HandleCall(1, echo)
		l, _ := hubs[0].peer(2).current()
		refused := make(chan error, groupQueueMax+1)
		for range groupQueueMax + 1 { // more than a pipeline would send
			r := &rpc{kind: frameAppended, done: make(chan error, 1), parse: func(d *decoder) error { return parseAppended(d, &hraft.AppendEntriesResponse{}) }}
			if _, err := slow.send(l, "n2", r, frameAppend, true, func(b []byte) []byte {
				return appendAppend(append(b, 0), &hraft.AppendEntriesRequest{Entries: []*hraft.Log{{Index: 1}}})
			}); err != nil {
				t.Fatal(err)
			}
			go func() {
				if err := <-r.done; err != nil && strings.Contains(err.Error(), "group 5 is busy") {
					refused <- err
				}
			}()
		}
		<-refused
		if err := fast.AppendEntries("n2", "n2", &hraft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1}, &hraft.AppendEntriesResponse{}); err != nil {
			t.Errorf("another group: %v", err)
		}
		if b, err := hubs[0].Call(t.Context(), 2, 1, []byte("hello")); err != nil || string(b) != "hello" {
			t.Errorf("a call: %q, %v", b, err)
		}
		// Its questions are answered when it is stopped.
		if err := stuck.Close(); err != nil {
			t.Error(err)
		}
		eventually(t, "answers", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.waiting) == 0
		})
	})
}

func TestAReplicaIsReachedByItsIDAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		a, b := pair(t, hubs, 5)
		stop := answering(b, accept)
		ask := func(target hraft.ServerAddress) error {
			return a.AppendEntries("", target, &hraft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1}, &hraft.AppendEntriesResponse{})
		}
		if err := ask("n2"); err != nil {
			t.Errorf("the replica: %v", err)
		}
		if err := ask("n2-earlier"); !errors.Is(err, errNotThere) {
			t.Errorf("an id of the same node: %v", err)
		}
		if err := ask("who"); !errors.Is(err, ErrUnreachable) {
			t.Errorf("no replica's id: %v", err)
		}
		if err := a.RequestVote("n3", "n3", &hraft.RequestVoteRequest{}, &hraft.RequestVoteResponse{}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("a node that there is no link to: %v", err)
		}
		stop()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := ask("n2"); !errors.Is(err, errNotThere) {
			t.Errorf("a replica that was stopped: %v", err)
		}
		later, err := hubs[1].Network().Transport(5, "n2-later")
		if err != nil {
			t.Fatal(err)
		}
		defer later.Close()
		defer answering(later.(*transport), accept)()
		if err := ask("n2"); !errors.Is(err, errNotThere) {
			t.Errorf("the earlier id: %v", err)
		}
		if err := ask("n2-later"); err != nil {
			t.Errorf("the later id: %v", err)
		}
		if _, err := hubs[1].Network().Transport(5, "n2"); !errors.Is(err, errGroup) {
			t.Errorf("two replicas of one group: %v", err)
		}
	})
}

func TestMessagesOfRaftWaitForALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		one := w.hub(1)
		one.Connect([]uint32{2})
		a, err := one.Network().Transport(5, "n1")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := a.RequestVote("n2", "n2", &hraft.RequestVoteRequest{}, &hraft.RequestVoteResponse{}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("a vote: %v", err)
		}
		if time.Now().Before(began.Add(linkWait)) {
			t.Error("a vote did not wait")
		}
		if _, err := a.AppendEntriesPipeline("n2", "n2"); !errors.Is(err, ErrUnreachable) {
			t.Errorf("a pipeline: %v", err)
		}
		results := make(chan error, 3)
		entries := func(term uint64) {
			results <- a.AppendEntries("n2", "n2", &hraft.AppendEntriesRequest{Term: term, PrevLogEntry: 1}, &hraft.AppendEntriesResponse{})
		}
		go entries(1)
		time.Sleep(time.Hour)
		go entries(2)
		if err := <-results; !errors.Is(err, errSuperseded) {
			t.Errorf("one of an earlier term: %v", err)
		}
		one.Connect(nil) // the map forgets the peer, and has it again
		time.Sleep(time.Hour)
		one.Connect([]uint32{2})
		two := w.hub(2)
		b, err := two.Network().Transport(5, "n2")
		if err != nil {
			t.Fatal(err)
		}
		stop := answering(b.(*transport), accept)
		if err := <-results; err != nil {
			t.Errorf("when the peer is there: %v", err)
		}
		stop()
		go entries(2) // is never answered
		time.Sleep(time.Second)
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := <-results; !errors.Is(err, ErrClosed) {
			t.Errorf("when the transport is closed: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnAnswerThatDoesNotComeIsNotWaitedForForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		a, _ := pair(t, w.mesh(2), 5)
		if err := a.RequestVote("n2", "n2", &hraft.RequestVoteRequest{}, &hraft.RequestVoteResponse{}); !errors.Is(err, errTimeout) {
			t.Errorf("a vote: %v", err)
		}
	})
}
