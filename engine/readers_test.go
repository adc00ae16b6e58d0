package engine

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"parley/wire"
)

// A user who has a reader busy and a thousand jobs waiting delays another one by no more
// than what runs.
func TestReadersTakeTurnsByUser(t *testing.T) {
	r := newReaders(1, 4096)
	hold := make(chan struct{})
	var mu sync.Mutex
	var order []wire.ID
	job := func(user wire.ID) func() {
		return func() {
			<-hold
			mu.Lock()
			defer mu.Unlock()
			order = append(order, user)
		}
	}
	for range 1000 {
		if !r.submit(1, job(1)) {
			t.Fatal("a job was refused")
		}
	}
	for user := wire.ID(2); user <= 4; user++ {
		for range 2 {
			if !r.submit(user, job(user)) {
				t.Fatal("a job was refused")
			}
		}
	}
	close(hold)
	r.close()
	if len(order) != 1006 {
		t.Fatalf("%d jobs ran", len(order))
	}
	for i, user := range order[9:] {
		if user != 1 {
			t.Fatalf("user %d had the turn %d, behind %v", user, i+9, order[:12])
		}
	}
}

// What waits is bounded, a user has half of what is free, and no more of a user's jobs run
// at once than readsAtOnce.
func TestReadersAreBounded(t *testing.T) {
	const limit = 100
	r := newReaders(8, limit)
	hold, running, most := make(chan struct{}), atomic.Int64{}, atomic.Int64{}
	job := func() {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-hold
		running.Add(-1)
	}
	accepted := 0
	for r.submit(1, job) {
		accepted++
	}
	if accepted < limit/4 || accepted > limit/2+readsAtOnce {
		t.Errorf("one user may have %d of %d", accepted, limit)
	}
	for user := wire.ID(2); r.submit(user, func() {}); user++ {
		if user > 10*limit {
			t.Fatal("there is no bound")
		}
	}
	close(hold)
	r.close()
	if most.Load() > readsAtOnce {
		t.Errorf("%d jobs of one user ran at once", most.Load())
	}
	if len(r.lanes) != 0 || r.waiting != 0 || r.submit(1, job) {
		t.Errorf("%d lanes and %d jobs are left", len(r.lanes), r.waiting)
	}
}

// Questions of other nodes are answered while every reader waits, as it would for another node.
func TestQuestionsAreAnsweredWhileReadersWait(t *testing.T) {
	r := newReaders(2, 16)
	hold := make(chan struct{})
	for user := wire.ID(1); user <= 4; user++ {
		r.submit(user, func() { <-hold })
	}
	if !r.answer(func() { close(hold) }) {
		t.Fatal("the question was refused")
	}
	<-hold
	r.close()
}

// A client that asks for much history and does not read it waits, and is not closed for
// answers that it asked for; what it asks beyond is refused until it reads.
func TestASlowReaderOfHistoryIsNotClosed(t *testing.T) {
	n := start(t, Config{Loops: 1})
	_, bob := user(t, n, "ada"), user(t, n, "bob")
	a, _ := live(t, n, "ada", 1, 100)
	body := strings.Repeat("x", 15<<10)
	for counter := uint64(1); counter <= 8; counter++ {
		a.text(wire.DirectRef(bob), counter, body)
		a.until(wire.TypeSent)
	}
	slow := hello(t, n, "ada", 2, 101)
	slow.Conn.(*net.TCPConn).SetReadBuffer(16 << 10)
	const rounds = 60
	for round := range rounds {
		var frames []byte
		for i := range wire.RequestsMax {
			h := wire.History{Correlation: uint64(round*wire.RequestsMax + i + 1), Ref: wire.DirectRef(bob), Mode: wire.HistoryBackward}
			frames = wire.AppendHistory(frames, &h)
		}
		slow.send(frames)
		a.settled() // the loop has looked at it
		waitUntil(t, func() bool { return n.readers.depth() == 0 })
	}
	pages, refused := map[uint64]bool{}, 0
	for last := uint64(0); len(pages)+refused < rounds*wire.RequestsMax; {
		f, err := slow.Next()
		if err != nil {
			t.Fatalf("after %d pages and %d refusals: %v, close code %d; reactor: %v", len(pages), refused, err, slow.Code, n.server.Stats().Closed)
		}
		switch f.Type {
		case wire.TypePage:
			p, err := wire.ParsePage(f)
			if err != nil || p.Correlation <= last {
				t.Fatalf("page %d after %d (%v)", p.Correlation, last, err)
			}
			last = p.Correlation
			pages[last] = true
		case wire.TypeError:
			e, err := wire.ParseError(f)
			if err != nil || e.Code != wire.CodeOverloaded {
				t.Fatalf("%v, %v", e, err)
			}
			refused++
		}
	}
	if len(pages) < wire.RequestsMax || n.server.Stats().Blocked < 0 {
		t.Fatalf("%d pages came", len(pages))
	}
	// It reads again, and is answered again.
	if p := slow.history(wire.History{Correlation: 7, Ref: wire.DirectRef(bob), Mode: wire.HistoryBackward, Limit: 1}); len(p.Messages) != 1 {
		t.Fatalf("%+v", p)
	}
}

// Requests of one session are answered in their order, though they are read one at a time.
func TestRequestsOfASessionAreAnsweredInOrder(t *testing.T) {
	n := start(t, Config{})
	user(t, n, "ada")
	for i := range 3 {
		user(t, n, fmt.Sprint("peer", i))
	}
	a := hello(t, n, "ada", 1, 100)
	var frames []byte
	for i := range uint64(wire.RequestsMax) {
		frames = wire.AppendResolve(frames, &wire.Resolve{Correlation: i + 1, Names: []string{"peer0", "peer1", "peer2"}})
	}
	for range 10 {
		a.send(frames)
		for i := range uint64(wire.RequestsMax) {
			l, err := wire.ParseUserList(a.want(wire.TypeUserList))
			if err != nil || l.Correlation != i+1 || len(l.Users) != 3 {
				t.Fatalf("%+v, %v", l, err)
			}
		}
	}
}
