//go:build linux

package core

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"parley/bench/load"
	"parley/engine/shard"
	"parley/wire"
)

// latencyMax is the longest wait for an acknowledgement that is told apart.
const latencyMax = time.Minute

// device and epoch name the one outbox of each author.
const (
	device = 1
	epoch  = 1
)

// A session's handle, as the core takes the number of a writer for one: its place below, the
// life of its window above.
const (
	placeBits = 32
	placeMask = 1<<placeBits - 1
)

// A writer is one conversation whose first user writes to the second, with a window of
// messages on their way. Counters and sequences run alike: nobody else writes.
type writer struct {
	conversation wire.Conversation
	stream       uint64 // of its texts
	next         uint64 // counter to send next
	sent         uint64 // the highest that was ever sent
	acked        uint64
	life         uint64 // of the window: a refusal from an earlier one is no news
	stalled      bool   // resume is to send on
	moments      []time.Duration
}

// traffic is the load of one shard, and its sink on all replicas. Effects runs on the leader's
// apply goroutine, refusals come from others, and resume runs on the supervisor's, so a mutex
// guards it; it is hardly ever waited for.
type traffic struct {
	run   *run
	shard int
	acked atomic.Uint64

	mu         sync.Mutex
	writers    []writer
	stalled    int
	latency    *hdrhistogram.Histogram
	refused    uint64 // and sent again: the leader changed, or an entry failed
	complaints load.Complaints
	body       []byte
	message    shard.Send
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, latencyMax.Microseconds(), 3)
}

// add adds a conversation, which begins when resume finds a leader.
func (t *traffic) add(c wire.Conversation, stream, window int) {
	t.writers = append(t.writers, writer{conversation: c, stream: uint64(stream), next: 1, stalled: true, moments: make([]time.Duration, window)})
	t.stalled++
}

// Effects implements shard.Sink: each answer makes room for the next message.
func (t *traffic) Effects(e *shard.Effects) {
	if len(e.Sent)+len(e.Refused) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Since(t.run.base)
	leader := t.run.cluster.leader(t.shard)
	for i := range e.Sent {
		t.accept(&e.Sent[i], leader, now)
	}
	for i := range e.Refused {
		t.refuse(&e.Refused[i])
	}
	if leader != nil {
		leader.Kick()
	}
}

// accept notes an acknowledgement, which covers all before it, and sends what there is room for.
func (t *traffic) accept(e *shard.SentEffect, leader *shard.Shard, now time.Duration) {
	place := int(e.Session&placeMask) - 1
	w := &t.writers[place]
	if e.Sequence != e.Correlation {
		t.complain(fmt.Sprintf("message %d of %v is #%d", e.Correlation, w.conversation, e.Sequence))
	}
	if e.Correlation <= w.acked {
		return // sent twice, and accepted once
	}
	if e.Correlation == w.acked+1 {
		took := now - w.moments[e.Correlation%uint64(len(w.moments))]
		// Out of range is the only error, and the value is within it.
		_ = t.latency.RecordValue(min(max(took.Microseconds(), 1), latencyMax.Microseconds()))
	}
	t.acked.Add(e.Correlation - w.acked)
	w.acked = e.Correlation
	w.next = max(w.next, w.acked+1)
	if !w.stalled {
		t.fill(place, leader, now)
	}
}

// refuse winds a writer back to its first message without an answer. What was refused in an
// earlier life of its window is on its way again already.
func (t *traffic) refuse(e *shard.RefusedEffect) {
	w := &t.writers[int(e.Session&placeMask)-1]
	t.refused++
	if e.Code.Class() >= wire.ClassPermanent {
		t.complain(fmt.Sprintf("message %d of %v was refused: %v", e.Correlation, w.conversation, e.Code))
	}
	if e.Session>>placeBits == w.life {
		t.stall(w)
	}
}

func (t *traffic) stall(w *writer) {
	w.life++
	w.next = w.acked + 1
	if !w.stalled {
		w.stalled = true
		t.stalled++
	}
}

// fill sends until the window is full or, once the run ends, until all that was ever sent is on
// its way again.
func (t *traffic) fill(place int, leader *shard.Shard, now time.Duration) {
	w := &t.writers[place]
	limit := w.acked + uint64(len(w.moments))
	if t.run.ending.Load() {
		limit = w.sent
	}
	for ; w.next <= limit; w.next++ {
		t.body = t.run.texts.Append(t.body[:0], w.stream, w.next)
		t.message = shard.Send{
			Origin:       shard.Origin{Session: w.life<<placeBits | uint64(place+1), Correlation: w.next},
			Conversation: w.conversation, Author: w.conversation.A, Device: device, Epoch: epoch, Counter: w.next,
			PeerKnown: true, Content: wire.Content{Bytes: t.body},
		}
		if leader == nil || leader.Send(&t.message) != nil {
			t.stall(w)
			return
		}
		w.moments[w.next%uint64(len(w.moments))] = now
		w.sent = max(w.sent, w.next)
	}
}

// resume sends on for the writers that wait for a leader, if there is one.
func (t *traffic) resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stalled == 0 {
		return
	}
	leader := t.run.cluster.leader(t.shard)
	if leader == nil {
		return
	}
	now := time.Since(t.run.base)
	t.stalled = 0
	for place := range t.writers {
		if w := &t.writers[place]; w.stalled {
			w.stalled = false
			t.fill(place, leader, now)
		}
	}
	leader.Kick()
}

// settled reports whether all that was sent is acknowledged.
func (t *traffic) settled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.writers {
		if w := &t.writers[i]; w.acked < w.sent {
			return false
		}
	}
	return true
}

// complain notes an error; the mutex is held.
func (t *traffic) complain(text string) {
	t.complaints.Errors++
	if t.complaints.First == "" {
		t.complaints.First = text
	}
}
