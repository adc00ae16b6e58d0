package shard

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"parley/raft"
	"parley/wire"
)

func newTestQueue() *Queue {
	q := NewQueue(3<<40, func() wire.Time { return 9 }, func() {})
	q.lead()
	return q
}

func testSend(author wire.ID, counter uint64, body string) *Send {
	return &Send{Origin: Origin{Session: uint64(author), Correlation: counter}, Conversation: wire.DirectConversation(author, 1<<40),
		Author: author, Device: 1, Epoch: 1, Counter: counter, Content: wire.Text(body)}
}

// next takes one entry and decodes it; nil if nothing waits.
func next(t testing.TB, q *Queue) ([]command, *batch) {
	t.Helper()
	data, handle, ok := q.Next(nil)
	if !ok {
		return nil, nil
	}
	origin, _, commands, err := parseEntry(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > EntryBytesMax || len(commands) > EntryCommandsMax {
		t.Fatalf("an entry of %d bytes and %d commands", len(data), len(commands))
	}
	b := q.claim(origin)
	if b == nil || origin != handle.(uint64) {
		t.Fatalf("batch %d cannot be claimed as %v", origin, handle)
	}
	for i := range b.origins {
		if c := commands[i]; uint64(c.user) != b.origins[i].Session || c.number != b.origins[i].Correlation {
			t.Fatalf("command %d of %d belongs to %v", c.number, c.user, b.origins[i])
		}
	}
	return commands, b
}

func TestQueueOrderWithinAnEntry(t *testing.T) {
	q := newTestQueue()
	if err := q.Cursor(&Cursor{Session: 8, Conversation: wire.DirectConversation(1, 2), User: 1, Position: 4}); err != nil {
		t.Fatal(err)
	}
	done := q.control(appendOutgoingDone(appendOutgoingDone(nil, 1), 2), 2)
	for i := range uint64(3) {
		if err := q.Send(testSend(5, i+1, "x")); err != nil {
			t.Fatal(err)
		}
	}
	commands, b := next(t, q)
	var kinds []commandKind
	for _, c := range commands {
		kinds = append(kinds, c.kind)
	}
	want := []commandKind{commandSend, commandSend, commandSend, commandOutgoingDone, commandOutgoingDone, commandCursor}
	if fmt.Sprint(kinds) != fmt.Sprint(want) {
		t.Fatalf("entry is %v, want %v", kinds, want)
	}
	if len(b.origins) != 3 || len(b.controls) != 1 || b.controls[0].count != 2 || len(b.cursors) != 1 || b.cursors[0].Session != 8 {
		t.Fatalf("batch is %+v", b)
	}
	select {
	case err := <-done:
		t.Fatalf("a control was answered by packing it: %v", err)
	default:
	}
	if c, _ := next(t, q); c != nil {
		t.Fatalf("%d commands are left", len(c))
	}
}

// TestFloodLeavesRoom floods the queue with large messages of one author: others get into
// the next entry all the same, and the flood stops short of the whole queue.
func TestFloodLeavesRoom(t *testing.T) {
	q := newTestQueue()
	large := strings.Repeat("x", 4000)
	flood := uint64(0)
	for {
		if err := q.Send(testSend(1, flood+1, large)); err != nil {
			if !errors.Is(err, ErrOverloaded) || CodeOf(err) != wire.CodeOverloaded {
				t.Fatal(err)
			}
			break
		}
		flood++
	}
	if bytes := flood * 4000; bytes < QueueBytesMax/4 || bytes > QueueBytesMax/2 {
		t.Fatalf("one author may queue %d of %d bytes", bytes, QueueBytesMax)
	}
	for author := wire.ID(2); author <= 20; author++ {
		if err := q.Send(testSend(author, 1, "hello")); err != nil {
			t.Fatalf("author %d: %v", author, err)
		}
	}
	if err := q.Cursor(&Cursor{Conversation: wire.DirectConversation(1, 2), User: 2, Position: 1}); err != nil {
		t.Fatal(err)
	}
	commands, _ := next(t, q)
	authors, cursors := make(map[wire.ID]int), 0
	for _, c := range commands {
		if c.kind == commandCursor {
			cursors++
		} else {
			authors[c.user]++
		}
	}
	if len(authors) != 20 || cursors != 1 {
		t.Fatalf("the entry has messages of %d authors and %d cursors, want 20 and 1", len(authors), cursors)
	}
}

// TestManyFloodsLeaveRoom fills the queue by many authors: the total stays bounded, and a
// newcomer still gets in.
func TestManyFloodsLeaveRoom(t *testing.T) {
	q := newTestQueue()
	body := strings.Repeat("x", 1000)
	for author := wire.ID(1); author <= 10; author++ {
		for counter := uint64(1); q.Send(testSend(author, counter, body)) == nil; counter++ {
			if n := q.sends.bytes + q.sends.fresh.waitingBytes(); n > QueueBytesMax {
				t.Fatalf("the queue holds %d bytes", n)
			}
		}
	}
	if err := q.Send(testSend(99, 1, body)); err != nil {
		t.Fatalf("a newcomer: %v", err)
	}
}

// TestAuthorsKeepTheirOrder mixes authors in overload and checks that nothing is lost,
// doubled or out of order, and that the buffers are given back.
func TestAuthorsKeepTheirOrder(t *testing.T) {
	q := newTestQueue()
	counters, seen := make(map[wire.ID]uint64), make(map[wire.ID]uint64)
	total, got := 0, 0
	take := func() bool {
		commands, b := next(t, q)
		for _, c := range commands {
			if c.number != seen[c.user]+1 {
				t.Fatalf("author %d: %d after %d", c.user, c.number, seen[c.user])
			}
			seen[c.user] = c.number
			got++
		}
		if b != nil {
			q.release(b)
		}
		return commands != nil
	}
	for i := range 20_000 {
		author := wire.ID(i*i%37 + 1)
		counters[author]++
		if err := q.Send(testSend(author, counters[author], strings.Repeat("y", i%300))); err != nil {
			t.Fatal(err)
		}
		total++
		if i%1500 == 0 {
			take()
		}
	}
	for take() {
	}
	if got != total || q.depth() != 0 {
		t.Fatalf("%d of %d came out, %d wait", got, total, q.depth())
	}
	if q.sends.lanes != nil || q.sends.turns != nil || q.sends.bytes != 0 || q.sends.fresh.waitingBytes() != 0 {
		t.Fatalf("an empty queue holds %+v", q.sends)
	}
}

// TestSharesAreOfBytes gives one author large and another small messages: each gets about
// half of an entry's bytes.
func TestSharesAreOfBytes(t *testing.T) {
	q := newTestQueue()
	for i := range uint64(2000) {
		if err := errors.Join(q.Send(testSend(1, i+1, strings.Repeat("x", 900))), q.Send(testSend(2, i+1, strings.Repeat("x", 90)))); err != nil {
			t.Fatal(err)
		}
	}
	bytes := make(map[wire.ID]int)
	for range 5 {
		commands, _ := next(t, q)
		for _, c := range commands {
			bytes[c.user] += len(c.content.Bytes) + 40
		}
	}
	if bytes[1] > bytes[2]*3/2 || bytes[2] > bytes[1]*3/2 {
		t.Fatalf("shares are %d and %d bytes", bytes[1], bytes[2])
	}
}

func TestCursorsFold(t *testing.T) {
	q := newTestQueue()
	cursor := func(user wire.ID, kind wire.CursorKind, position, session uint64) {
		t.Helper()
		if err := q.Cursor(&Cursor{Session: session, Conversation: wire.DirectConversation(1, 2), User: user, Kind: kind, Position: position}); err != nil {
			t.Fatal(err)
		}
	}
	cursor(1, wire.Delivered, 5, 10)
	cursor(1, wire.Delivered, 7, 11)
	cursor(1, wire.Delivered, 6, 12)
	cursor(1, wire.Read, 3, 13)
	cursor(2, wire.Delivered, 1, 14)
	commands, b := next(t, q)
	if len(commands) != 3 || commands[0].number != 7 || b.cursors[0].Session != 11 || commands[1].number != 3 || commands[2].user != 2 {
		t.Fatalf("cursors are %+v", commands)
	}
	cursor(1, wire.Delivered, 8, 15)
	if commands, _ = next(t, q); len(commands) != 1 || commands[0].number != 8 {
		t.Fatalf("a cursor behind a packed one is %+v", commands)
	}
}

// TestCursorFloodLeavesRoom floods the queue with one user's cursors of conversations
// that may not even exist.
func TestCursorFloodLeavesRoom(t *testing.T) {
	q := newTestQueue()
	n := 0
	for ; ; n++ {
		err := q.Cursor(&Cursor{Conversation: wire.DirectConversation(1, wire.ID(n+2)), User: 1, Position: 1})
		if errors.Is(err, ErrOverloaded) {
			break
		}
		if err != nil || n > CursorsMax {
			t.Fatalf("%d cursors: %v", n, err)
		}
	}
	for i := range wire.ID(1000) {
		if err := q.Cursor(&Cursor{Conversation: wire.DirectConversation(i+5, 3), User: i + 5, Position: 1}); err != nil {
			t.Fatalf("after %d cursors of one user: %v", n, err)
		}
	}
	got := 0
	for commands, _ := next(t, q); commands != nil; commands, _ = next(t, q) {
		got += len(commands)
	}
	if got != n+1000 || q.cursors.users != nil || len(q.cursors.folded) != 0 {
		t.Fatalf("%d of %d came out, %d are folded", got, n+1000, len(q.cursors.folded))
	}
}

func TestControlsAreBounded(t *testing.T) {
	q := newTestQueue()
	for range ControlsMax {
		q.control(appendOutgoingDone(nil, 1), 1)
	}
	if err := <-q.control(appendOutgoingDone(nil, 1), 1); !errors.Is(err, ErrOverloaded) {
		t.Fatalf("one control too many: %v", err)
	}
	got := 0
	for commands, _ := next(t, q); commands != nil; commands, _ = next(t, q) {
		got += len(commands)
	}
	if got != ControlsMax {
		t.Fatalf("%d controls came out", got)
	}
}

// TestStrangersEntriesAreNotClaimed holds entries of other processes, and of former lives.
func TestStrangersEntriesAreNotClaimed(t *testing.T) {
	q, other := newTestQueue(), NewQueue(4<<40, func() wire.Time { return 1 }, func() {})
	other.lead()
	if err := errors.Join(q.Send(testSend(1, 1, "x")), other.Send(testSend(1, 1, "x"))); err != nil {
		t.Fatal(err)
	}
	_, handle, _ := q.Next(nil)
	_, strange, _ := other.Next(nil)
	if q.claim(strange.(uint64)) != nil || q.claim(handle.(uint64)+1) != nil {
		t.Fatal("a strange entry was claimed")
	}
	if q.claim(handle.(uint64)) == nil || q.claim(handle.(uint64)) != nil {
		t.Fatal("an own entry can be claimed exactly once")
	}
}

func TestCodesOfQueueErrorsAreRetries(t *testing.T) {
	for _, err := range []error{ErrOverloaded, ErrNotLeader, ErrClosed, raft.ErrNotLeader, raft.ErrClosed, raft.ErrTimeout, errors.New("unknown")} {
		if code := CodeOf(fmt.Errorf("wrapped: %w", err)); code.Class() != wire.ClassRetry {
			t.Errorf("%v is %v", err, code)
		}
	}
}

// TestOnlyWhatDecodesIsQueued holds commands that would stop every replica.
func TestOnlyWhatDecodesIsQueued(t *testing.T) {
	q := newTestQueue()
	good := wire.DirectConversation(1, 2)
	for _, m := range []Send{
		{Author: 1 << 48, Device: 1, Conversation: good},
		{Author: 0, Device: 1, Conversation: good},
		{Author: 1, Device: 0, Conversation: good},
		{Author: 1, Device: 1, Conversation: wire.Conversation{Kind: wire.Direct, A: 2, B: 1}},
		{Author: 1, Device: 1, Conversation: wire.Conversation{Kind: wire.Direct, A: 1, B: 1 << 48}},
		{Author: 1, Device: 1, Conversation: wire.Conversation{Kind: wire.Group, A: 1, B: 1}},
		{Author: 1, Device: 1, Conversation: wire.Conversation{Kind: 7, A: 1, B: 2}},
	} {
		if err := q.Send(&m); !errors.Is(err, ErrBadCommand) || CodeOf(err) != wire.CodeMalformed {
			t.Errorf("%+v: %v", m, err)
		}
	}
	for _, c := range []Cursor{
		{User: 1 << 48, Conversation: good},
		{User: 1, Conversation: wire.Conversation{}},
		{User: 1, Conversation: good, Kind: wire.OwnDelivered},
		{User: 1, Conversation: good, Position: 1 << 62},
	} {
		if err := q.Cursor(&c); !errors.Is(err, ErrBadCommand) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if q.depth() != 0 {
		t.Fatalf("%d commands were queued", q.depth())
	}
}

// TestQueueConcurrently lets sessions, a batcher and failures run beside each other:
// everybody gets one answer.
func TestQueueConcurrently(t *testing.T) {
	q := newTestQueue()
	const senders, each = 8, 2000
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := make(map[Origin]int)
	answer := func(origins []Origin) {
		mu.Lock()
		defer mu.Unlock()
		for _, o := range origins {
			answers[o]++
		}
	}
	for s := range senders {
		wg.Go(func() {
			for i := range uint64(each) {
				m := testSend(wire.ID(s+1), i+1, "hello")
				if q.Send(m) != nil {
					answer([]Origin{m.Origin})
				}
				if i%10 == 0 {
					_ = q.Cursor(&Cursor{Conversation: m.Conversation, User: m.Author, Position: i})
				}
			}
		})
	}
	stop := make(chan struct{})
	var batcher sync.WaitGroup
	batcher.Go(func() {
		for i := 0; ; i++ {
			_, handle, ok := q.Next(nil)
			if !ok {
				select {
				case <-stop:
					return
				default:
					continue
				}
			}
			for range 2 { // applied and failed at once: one of them wins
				batcher.Go(func() {
					if b := q.claim(handle.(uint64)); b != nil {
						q.requeue(b.cursors[:min(i%2, len(b.cursors))])
						answer(b.origins)
						q.release(b)
					}
				})
			}
			if i%50 == 49 {
				waiting, _ := q.follow()
				answer(waiting)
				q.lead()
			}
		}
	})
	wg.Wait()
	close(stop)
	batcher.Wait()
	waiting, _ := q.close()
	answer(waiting)
	for s := range senders {
		for i := range uint64(each) {
			if n := answers[Origin{Session: uint64(s + 1), Correlation: i + 1}]; n != 1 {
				t.Fatalf("send %d of %d has %d answers", i+1, s+1, n)
			}
		}
	}
}

// A cursor beyond the head moves nothing, and takes none along that it was folded over: in
// whatever order they came, and on whatever side of each other.
func TestABogusCursorLeavesTheOnesItWasFoldedOver(t *testing.T) {
	c := wire.DirectConversation(1, 2)
	for name, test := range map[string]struct {
		positions []uint64
		want      uint64
		refused   int
	}{
		"after a good one":             {[]uint64{3, 900}, 3, 1},
		"before a good one":            {[]uint64{900, 3}, 3, 1},
		"several":                      {[]uint64{2, 900, 901, 902}, 2, 3},
		"between good ones":            {[]uint64{2, 900, 4, 901, 3}, 4, 2},
		"after more than are kept":     {[]uint64{1, 2, 3, 4, 5, 6, 7, 900}, 7, 1},
		"more of them than are kept":   {[]uint64{5, 900, 901, 902, 903, 904, 905}, 5, 3},
		"nothing but bogus ones":       {[]uint64{900, 901}, 0, 2},
		"the same position once more":  {[]uint64{5, 900, 5, 900}, 5, 1},
		"a good one above a good one":  {[]uint64{5, 6}, 6, 0},
		"a good one below a good one":  {[]uint64{6, 5}, 6, 0},
		"good ones around a bogus one": {[]uint64{6, 900, 7}, 7, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplica(t, 0, 0, wire.Slots-1)
			r.lead()
			for counter := uint64(1); counter <= 10; counter++ {
				r.send(&Send{Conversation: c, Author: 1, Device: 1, Epoch: 1, Counter: counter, PeerKnown: true, Content: wire.Text("x")})
			}
			r.run()
			for i, position := range test.positions {
				if err := r.shard.Cursor(&Cursor{Session: uint64(i + 1), Conversation: c, User: 2, Kind: wire.Read, Position: position}); err != nil {
					t.Fatal(err)
				}
			}
			refused := 0
			for _, e := range r.run() {
				refused += len(e.Refused)
			}
			state, _, err := r.shard.State(2, c, false)
			if err != nil || state.Read != test.want || refused != test.refused {
				t.Fatalf("read up to %d, want %d; %d refusals, want %d (%v)", state.Read, test.want, refused, test.refused, err)
			}
		})
	}
}

// What a refused cursor was folded over and finds no place any more is refused too, by a
// code that makes the client send its cursors again.
func TestAnUnfoldedCursorWithoutAPlaceIsToldToItsSession(t *testing.T) {
	r := newReplica(t, 0, 0, wire.Slots-1)
	r.lead()
	c := wire.DirectConversation(1, 2)
	r.send(&Send{Conversation: c, Author: 1, Device: 1, Epoch: 1, Counter: 1, PeerKnown: true, Content: wire.Text("x")})
	r.run()
	for _, position := range []uint64{1, 900} {
		if err := r.shard.Cursor(&Cursor{Session: 7, Conversation: c, User: 2, Kind: wire.Read, Position: position}); err != nil {
			t.Fatal(err)
		}
	}
	entries, _ := r.pack()
	r.shard.Follow() // the queue takes nothing any more
	r.apply(entries...)
	var codes []wire.Code
	for _, e := range r.sink.take() {
		for _, x := range e.Refused {
			if x.Session != 7 {
				t.Errorf("session %d is told", x.Session)
			}
			codes = append(codes, x.Code)
		}
	}
	if len(codes) != 2 || codes[0] != wire.CodeBadCursor || codes[1] != wire.CodeNotLeader {
		t.Fatalf("refusals %v", codes)
	}
}
