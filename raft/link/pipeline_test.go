package link

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	hraft "github.com/hashicorp/raft"

	"parley/raft"
)

// entriesOf is an AppendEntries with n entries after prev.
func entriesOf(prev uint64, n int) *hraft.AppendEntriesRequest {
	a := &hraft.AppendEntriesRequest{Term: 3, PrevLogEntry: prev, PrevLogTerm: 3}
	for i := range uint64(n) {
		a.Entries = append(a.Entries, &hraft.Log{Index: prev + 1 + i, Term: 3, Data: []byte("data")})
	}
	return a
}

// pipes starts a pipeline between the replicas of a new pair.
func pipes(t testing.TB, w *world) (hubs []*Hub, b *transport, p *pipeline) {
	t.Helper()
	hubs = w.mesh(2)
	a, b := pair(t, hubs, 5)
	x, err := a.AppendEntriesPipeline("n2", "n2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return hubs, b, x.(*pipeline)
}

func TestAPipelineDeliversAnswersInOrder(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		_, b, p := pipes(t, w)
		defer answering(b, func(command any) (any, error) {
			a := command.(*hraft.AppendEntriesRequest)
			return &hraft.AppendEntriesResponse{Term: 3, Success: true, LastLog: a.PrevLogEntry + uint64(len(a.Entries))}, nil
		})()
		const n = 1000
		ahead := make(chan struct{}, doneMax/2) // hashicorp/raft reads answers as fast as it sends
		go func() {
			for i := range uint64(n) {
				ahead <- struct{}{}
				if _, err := p.AppendEntries(entriesOf(i, 1), &hraft.AppendEntriesResponse{}); err != nil {
					t.Error(err)
					p.Close()
				}
			}
		}()
		for i := range uint64(n) {
			var f hraft.AppendFuture
			select {
			case f = <-p.Consumer():
			case <-p.ended:
				t.Fatal("broken")
			}
			<-ahead
			if f.Error() != nil || f.Request().PrevLogEntry != i || f.Response().LastLog != i+1 || f.Start().IsZero() {
				t.Fatalf("answer %d: %+v, %+v", i, f.Request(), f.Response())
			}
		}
	})
}

func TestAPipelineTakesNoMoreAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		_, b, p := pipes(t, w)
		n := 0
		defer answering(b, func(any) (any, error) {
			n++
			return &hraft.AppendEntriesResponse{Term: 3, Success: n != 2}, nil
		})()
		for i := range uint64(3) {
			if _, err := p.AppendEntries(entriesOf(i, 1), &hraft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if _, err := p.AppendEntries(entriesOf(3, 1), &hraft.AppendEntriesResponse{}); !errors.Is(err, errPipelineBroken) {
			t.Errorf("after a refusal: %v", err)
		}
		if f := <-p.Consumer(); !f.Response().Success {
			t.Error("the first was accepted")
		}
		if f := <-p.Consumer(); f.Response().Success || f.Response().Term != 3 {
			t.Error("the second was refused")
		}
		select {
		case f := <-p.Consumer():
			t.Errorf("the third was delivered: %+v", f.Response())
		default:
		}
	})
}

func TestAPipelineEndsWithItsLinkAndReportsNoSignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs, _, p := pipes(t, w)
		for i := range uint64(AppendsInFlightMax) {
			if _, err := p.AppendEntries(entriesOf(i, 1), &hraft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
		}
		waiting := make(chan error, 1)
		go func() {
			_, err := p.AppendEntries(entriesOf(9, 1), &hraft.AppendEntriesResponse{})
			waiting <- err
		}()
		synctest.Wait()
		if err := hubs[1].Close(); err != nil {
			t.Error(err)
		}
		if err := <-waiting; !errors.Is(err, errPipelineBroken) {
			t.Errorf("one that waited: %v", err)
		}
		if _, err := p.AppendEntries(entriesOf(9, 1), &hraft.AppendEntriesResponse{}); !errors.Is(err, errPipelineBroken) {
			t.Errorf("the next: %v", err)
		}
		if len(p.Consumer()) > 0 {
			t.Error("an answer was delivered that never came")
		}
	})
}

func TestAFullPipelineDoesNotWaitForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		_, _, p := pipes(t, w)
		for i := range uint64(AppendsInFlightMax) {
			if _, err := p.AppendEntries(entriesOf(i, 1), &hraft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if _, err := p.AppendEntries(entriesOf(9, 1), &hraft.AppendEntriesResponse{}); !errors.Is(err, errPipelineFull) {
			t.Errorf("one too many: %v", err)
		}
		if end := time.Now(); !end.Equal(began.Add(pipelineWait)) {
			t.Errorf("it waited until %v", end)
		}
	})
}

func TestAPipelineIsLeftWhenTheReplicaLacksMoreThanAMessageHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		_, b, p := pipes(t, w)
		defer answering(b, accept)()
		send := func(prev uint64, n int) {
			t.Helper()
			if _, err := p.AppendEntries(entriesOf(prev, n), &hraft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
		}
		send(0, raft.EntriesAppendMax) // another follows: the leader is still at it
		send(16, 1)
		for range 2 {
			if f := <-p.Consumer(); !f.Response().Success {
				t.Fatal("not accepted")
			}
		}
		synctest.Wait()
		if p.failure() != nil {
			t.Fatal("left too early")
		}
		send(17, raft.EntriesAppendMax)
		if f := <-p.Consumer(); !f.Response().Success {
			t.Fatal("not accepted")
		}
		if f := <-p.Consumer(); f.Response().Success || f.Response().Term > 3 {
			t.Errorf("what ends the pipeline: %+v", f.Response())
		}
	})
}

func TestEmptyMessagesOfAPipelineLeaveAtOnceIfTheyTellSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		_, b, p := pipes(t, w)
		defer answering(b, accept)()
		took := func(commit uint64) time.Duration {
			began := time.Now() // of the bubble
			a := entriesOf(1, 0)
			a.LeaderCommitIndex = commit
			if _, err := p.AppendEntries(a, &hraft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
			<-p.Consumer()
			return time.Since(began)
		}
		for i, c := range []struct {
			commit uint64
			lazy   bool
		}{{5, false}, {5, true}, {6, false}, {6, true}} {
			want := time.Duration(0)
			if c.lazy {
				want = untilBeat(time.Now()) + beatInterval // and the answer at the next
			}
			if d := took(c.commit); d != want {
				t.Errorf("message %d with commit index %d took %v, want %v", i, c.commit, d, want)
			}
		}
	})
}
