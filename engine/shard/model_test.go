package shard

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/raft"
	"parley/storage"
	"parley/wire"
)

// outboxKey names an outbox of the model.
type outboxKey struct {
	author, device wire.ID
	epoch          uint64
}

// modelConversation is what a conversation must hold, in its simplest form.
type modelConversation struct {
	sent    []modelMessage
	boxes   map[outboxKey][]int // sequences of an outbox's messages, by counter
	used    []outboxKey         // those remembered, last used last
	cursors map[wire.ID][2]uint64
}

type modelMessage struct {
	author wire.ID
	body   string
	time   wire.Time
}

// A model is what the shard's promises come to, without any of its machinery.
type model struct {
	conversations map[wire.Conversation]*modelConversation
}

func (m *model) conversation(c wire.Conversation) *modelConversation {
	v := m.conversations[c]
	if v == nil {
		v = &modelConversation{boxes: make(map[outboxKey][]int), cursors: make(map[wire.ID][2]uint64)}
		m.conversations[c] = v
	}
	return v
}

// send gives the answer that a send must get: a sequence, or a code.
func (m *model) send(s *Send, now wire.Time) (sequence int, code wire.Code) {
	v := m.conversation(s.Conversation)
	key := outboxKey{s.Author, s.Device, s.Epoch}
	box, n := v.boxes[key], uint64(len(v.boxes[key]))
	body := string(s.Content.Bytes)
	switch {
	case n > 0 && !slices.Contains(v.used, key):
		return 0, wire.CodeUnknownOutcome
	case s.Counter <= n && n-s.Counter >= wire.DedupWindow:
		return 0, wire.CodeUnknownOutcome
	case s.Counter <= n && v.sent[box[s.Counter-1]-1].body != body:
		return 0, wire.CodeReused
	case s.Counter <= n:
		return box[s.Counter-1], 0
	case s.Counter > n+1:
		return 0, wire.CodeOutOfOrder
	case body == "":
		return 0, wire.CodeMalformed
	}
	time := now
	if len(v.sent) > 0 {
		time = max(time, v.sent[len(v.sent)-1].time)
	}
	v.sent = append(v.sent, modelMessage{s.Author, body, time})
	v.boxes[key] = append(box, len(v.sent))
	v.use(key)
	return len(v.sent), 0
}

func (v *modelConversation) use(key outboxKey) {
	v.used = slices.DeleteFunc(v.used, func(k outboxKey) bool { return k == key })
	v.used = append(v.used, key)
	count := 0
	for i := len(v.used) - 1; i >= 0; i-- {
		if v.used[i].author == key.author {
			if count++; count > wire.OutboxesMax {
				v.used = slices.Delete(v.used, i, i+1)
			}
		}
	}
}

// cursor tells whether a cursor moves something.
func (m *model) cursor(c *Cursor) (moved bool, code wire.Code) {
	v := m.conversation(c.Conversation)
	if c.Position > uint64(len(v.sent)) {
		return false, wire.CodeBadCursor
	}
	at := v.cursors[c.User]
	was := at
	at[wire.Delivered] = max(at[wire.Delivered], c.Position)
	if c.Kind == wire.Read {
		at[wire.Read] = max(at[wire.Read], c.Position)
	}
	v.cursors[c.User] = at
	return at != was, 0
}

// A modelEntry is an entry on its way with what was put into it.
type modelEntry struct {
	entry   raft.Entry
	handle  any
	time    wire.Time
	sends   []Send
	cursors []Cursor
	given   bool // back to the queue: its origins have had their answer
}

// A modelRun drives a leader and a follower over the same log, beside the model.
type modelRun struct {
	t         *rapid.T
	leader    *replica
	follower  *replica
	model     model
	queued    []Send
	cursors   []Cursor
	packed    []modelEntry
	answered  map[uint64]int // by correlation: how many answers
	asked     uint64
	positions map[string]uint64 // the last receipt told
	users     []wire.ID
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &modelRun{t: rt, model: model{make(map[wire.Conversation]*modelConversation)},
			answered: make(map[uint64]int), positions: make(map[string]uint64)}
		m.leader, m.follower = newReplica(t, 0, 0, wire.Slots-1), newReplica(t, 0, 0, wire.Slots-1)
		defer m.leader.close()
		defer m.follower.close()
		m.leader.lead()
		for _, name := range []string{"ann", "bob", "cy"} {
			id := wire.MakeID(wire.SlotOf([]byte(name)), 1)
			m.users = append(m.users, id)
			m.leader.shard.queue.control(appendCreateUser(nil, id, name, "hash"), 1)
		}
		m.leader.run()
		m.follower.log = slices.Clone(m.leader.log)
		rt.Repeat(map[string]func(*rapid.T){
			"send":    m.send,
			"burst":   m.burst,
			"cursor":  m.cursor,
			"cursor2": m.cursor,
			"pack":    m.pack,
			"apply":   m.apply,
			"lose":    m.lose,
			"restart": m.restart,
			"flush":   func(*rapid.T) { m.leader.flush() },
			"follow":  m.follow,
			"clock": func(t *rapid.T) {
				m.leader.clock = wire.Time(rapid.Uint64Range(0, 1000).Draw(t, "time"))
			},
		})
		m.finish()
	})
}

// send queues messages of a random outbox: the next one, or a retry, or one too early.
func (m *modelRun) send(t *rapid.T) {
	for range rapid.IntRange(1, 8).Draw(t, "sends") {
		s := m.outbox(t, 3)
		step := rapid.SampledFrom([]int{1, 1, 1, 1, 0, -1, -5, -62, -63, -64, 2}).Draw(t, "step")
		s.Counter = uint64(max(1, m.last(&s)+step))
		m.queue(t, &s, rapid.SampledFrom([]string{"", "", "", "", "", "", "another", "empty"}).Draw(t, "body"))
	}
}

// burst queues a device's messages in a row, or first messages of many outboxes, so that
// windows are crossed and outboxes forgotten.
func (m *modelRun) burst(t *rapid.T) {
	s := m.outbox(t, 1)
	wide := rapid.Bool().Draw(t, "wide")
	for range rapid.IntRange(10, 70).Draw(t, "burst") {
		if wide {
			s.Epoch = s.Epoch%20 + 1
		}
		s.Counter = uint64(m.last(&s) + 1)
		m.queue(t, &s, "")
	}
}

// outbox draws who sends where; low numbers are likelier, so that some get far.
func (m *modelRun) outbox(t *rapid.T, epochs int) Send {
	author := m.users[rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2}).Draw(t, "author")]
	peer := m.users[rapid.SampledFrom([]int{1, 1, 1, 0, 2}).Draw(t, "peer")]
	return Send{Conversation: wire.DirectConversation(author, peer), Author: author, PeerKnown: true,
		Device: wire.ID(rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "device")), Epoch: uint64(rapid.IntRange(1, epochs).Draw(t, "epoch"))}
}

// last is the highest counter that an outbox has used, or will once the queue is applied.
func (m *modelRun) last(s *Send) int {
	last := len(m.model.conversation(s.Conversation).boxes[outboxKey{s.Author, s.Device, s.Epoch}])
	for i := range m.queued {
		if q := &m.queued[i]; q.Conversation == s.Conversation && q.Author == s.Author && q.Device == s.Device && q.Epoch == s.Epoch {
			last = max(last, int(q.Counter))
		}
	}
	return last
}

// queue queues a send whose body follows from its outbox and counter, unless told other.
func (m *modelRun) queue(t *rapid.T, s *Send, body string) {
	switch body {
	case "":
		body = fmt.Sprintf("%d/%d/%d/%d", s.Author, s.Device, s.Epoch, s.Counter)
	case "empty":
		body = ""
	}
	if len(m.queued) >= 400 {
		return // beyond an entry's size the queue lets authors take turns
	}
	s.Content = wire.Text(body)
	m.asked++
	s.Origin = Origin{Session: 1, Correlation: m.asked}
	m.queued = append(m.queued, *s)
	if err := m.leader.shard.Send(s); err != nil {
		t.Fatal(err)
	}
}

func (m *modelRun) cursor(t *rapid.T) {
	who := m.outbox(t, 1)
	c := Cursor{Session: 2, Conversation: who.Conversation, User: who.Author,
		Kind: wire.CursorKind(rapid.IntRange(0, 1).Draw(t, "kind"))}
	head := len(m.model.conversation(c.Conversation).sent)
	c.Position = uint64(rapid.IntRange(0, head+1).Draw(t, "position"))
	if err := m.leader.shard.Cursor(&c); err != nil {
		t.Fatal(err)
	}
	m.noteCursor(c)
}

// noteCursor folds as the queue does.
func (m *modelRun) noteCursor(c Cursor) {
	for i := range m.cursors {
		if q := &m.cursors[i]; q.key() == c.key() {
			q.fold(&c)
			return
		}
	}
	m.cursors = append(m.cursors, c)
}

func (m *modelRun) pack(*rapid.T) {
	if len(m.packed) == 4 {
		return
	}
	entries, handle := m.leader.pack()
	if entries == nil {
		return
	}
	m.packed = append(m.packed, modelEntry{entry: entries[0], handle: handle, time: m.leader.clock, sends: m.queued, cursors: m.cursors})
	m.queued, m.cursors = nil, nil
}

// apply applies some of what is packed in one batch, and holds the answers to the model's.
func (m *modelRun) apply(t *rapid.T) {
	if len(m.packed) == 0 {
		return
	}
	n := rapid.IntRange(1, len(m.packed)).Draw(t, "entries")
	m.applyFirst(n)
}

func (m *modelRun) applyFirst(n int) {
	entries := make([]raft.Entry, 0, n)
	expected := make(map[uint64]string)
	for _, e := range m.packed[:n] {
		entries = append(entries, e.entry)
		for i := range e.sends {
			sequence, code := m.model.send(&e.sends[i], e.time)
			if !e.given {
				expected[e.sends[i].Correlation] = fmt.Sprintf("#%d %v", sequence, code)
			}
		}
		for i := range e.cursors {
			c := e.cursors[i]
			if _, code := m.model.cursor(&c); code != 0 && !e.given && c.unfold() {
				m.noteCursor(c)
			}
		}
	}
	m.packed = slices.Clone(m.packed[n:])
	m.leader.apply(entries...)
	m.follower.log = append(m.follower.log, entries...)
	for _, e := range m.leader.sink.take() {
		for _, x := range e.Sent {
			m.answer(expected, x.Correlation, fmt.Sprintf("#%d %v", x.Sequence, wire.Code(0)))
		}
		for _, x := range e.Refused {
			if x.Correlation != 0 {
				m.answer(expected, x.Correlation, fmt.Sprintf("#0 %v", x.Code))
			}
		}
		for _, x := range e.Receipts {
			key := fmt.Sprint(x.Conversation, x.User, x.Kind)
			if x.Position <= m.positions[key] {
				m.t.Fatalf("receipt %s goes from %d to %d", key, m.positions[key], x.Position)
			}
			m.positions[key] = x.Position
		}
	}
	if len(expected) > 0 {
		m.t.Fatalf("no answer for %v", expected)
	}
}

func (m *modelRun) answer(expected map[uint64]string, correlation uint64, got string) {
	if want, ok := expected[correlation]; !ok || want != got {
		m.t.Fatalf("send %d was answered %s, want %q (%v)", correlation, got, want, ok)
	}
	delete(expected, correlation)
	m.answered[correlation]++
}

// lose gives the oldest entry back; whether it is in the log nevertheless is drawn.
func (m *modelRun) lose(t *rapid.T) {
	if len(m.packed) == 0 || m.packed[0].given {
		return
	}
	e := &m.packed[0]
	timeout := rapid.Bool().Draw(t, "timeout")
	err := raft.ErrNotLeader
	if timeout {
		err = raft.ErrTimeout
	}
	m.leader.shard.Failed(e.handle, err)
	m.expectRetry(wire.CodeTimeout, len(e.sends)) // it may still be applied
	if timeout {
		for _, c := range e.cursors {
			m.noteCursor(c)
		}
	}
	e.given = true
	if rapid.Bool().Draw(t, "lost") {
		m.forget(e.entry.Index)
		m.packed = slices.Clone(m.packed[1:])
	}
}

// forget takes an entry out of the log, as if it had never been committed.
func (m *modelRun) forget(index uint64) {
	m.leader.log = slices.DeleteFunc(m.leader.log, func(e raft.Entry) bool { return e.Index == index })
}

func (m *modelRun) expectRetry(code wire.Code, sends int) {
	refused := 0
	for _, e := range m.leader.sink.take() {
		for _, x := range e.Refused {
			if x.Correlation == 0 && x.Code.Class() == wire.ClassRetry {
				continue // a cursor, whose session sends it again
			}
			if x.Code != code || x.Code.Class() != wire.ClassRetry {
				m.t.Fatalf("refused with %v, want %v", x.Code, code)
			}
			m.answered[x.Correlation]++
			refused++
		}
	}
	if refused != sends {
		m.t.Fatalf("%d of %d were refused", refused, sends)
	}
}

// restart crashes or stops the leader; what was packed is lost, what was applied is not.
func (m *modelRun) restart(t *rapid.T) {
	before := digest(m.leader, m.model.conversations, m.users)
	for _, e := range m.packed {
		m.forget(e.entry.Index)
	}
	for _, e := range m.packed {
		if !e.given {
			m.abandon(e.sends)
		}
	}
	m.abandon(m.queued)
	m.packed, m.queued, m.cursors = nil, nil, nil
	if rapid.Bool().Draw(t, "crash") {
		m.leader.crash()
	} else {
		m.leader.restart()
	}
	if len(m.leader.sink.take()) > 0 {
		t.Fatal("a replay had effects")
	}
	if after := digest(m.leader, m.model.conversations, m.users); before != after {
		t.Fatalf("state differs after a restart:\n%s\n%s", before, after)
	}
	m.leader.lead()
}

// abandon notes sends whose sessions ended with the process.
func (m *modelRun) abandon(sends []Send) {
	for i := range sends {
		m.answered[sends[i].Correlation]++
	}
}

// follow lets the other replica catch up in batches of its own, and compares.
func (m *modelRun) follow(t *rapid.T) {
	f := m.follower
	if rapid.IntRange(0, 4).Draw(t, "snapshot") == 0 {
		f.install(m.leader)
	}
	var todo []raft.Entry
	for _, e := range f.log {
		if e.Index > f.shard.Stats().Applied {
			todo = append(todo, e)
		}
	}
	for len(todo) > 0 {
		n := rapid.IntRange(1, len(todo)).Draw(t, "batch")
		f.apply(todo[:n]...)
		todo = todo[n:]
		if rapid.IntRange(0, 9).Draw(t, "fault") == 0 {
			f.log = slices.DeleteFunc(slices.Clone(f.log), func(e raft.Entry) bool { return e.Index > f.shard.Stats().Applied })
			f.flush()
			f.crash()
			for _, e := range todo {
				f.log = append(f.log, e)
			}
		}
	}
	m.compare()
}

func (m *modelRun) compare() {
	l, f := digest(m.leader, m.model.conversations, m.users), digest(m.follower, m.model.conversations, m.users)
	if m.leader.shard.Stats().Applied == m.follower.shard.Stats().Applied && l != f {
		m.t.Fatalf("replicas differ:\n%s\n%s", l, f)
	}
}

// finish applies what is left and compares all conversations with the model.
func (m *modelRun) finish() {
	for m.pack(m.t); len(m.packed) > 0; m.pack(m.t) {
		m.applyFirst(len(m.packed))
	}
	for correlation := uint64(1); correlation <= m.asked; correlation++ {
		if m.answered[correlation] != 1 {
			m.t.Fatalf("send %d has %d answers", correlation, m.answered[correlation])
		}
	}
	for c, v := range m.model.conversations {
		m.check(c, v)
	}
	m.leader.close()
	_, err := storage.Fsck(context.Background(), "state", m.leader.fs, func(f storage.Finding) { m.t.Errorf("fsck: %+v", f) })
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *modelRun) check(c wire.Conversation, v *modelConversation) {
	got := m.leader.messages(c)
	if len(got) != len(v.sent) {
		m.t.Fatalf("%v has %d messages, want %d", c, len(got), len(v.sent))
	}
	for i, message := range got {
		want := v.sent[i]
		if message.Sequence != uint64(i+1) || message.Author != want.author || string(message.Content.Bytes) != want.body || message.Time != want.time {
			m.t.Fatalf("%v: message %d is %+v, want %+v", c, i+1, message, want)
		}
	}
	for _, self := range []wire.ID{c.A, c.B} {
		state, ok, err := m.leader.shard.State(self, c, false)
		if err != nil || ok != (len(v.sent) > 0) {
			m.t.Fatalf("state of %v: %v %v", c, ok, err)
		}
		if !ok {
			continue
		}
		own, other := v.cursors[self], v.cursors[c.Peer(self)]
		unread := uint64(0)
		for i := own[wire.Read]; i < uint64(len(v.sent)); i++ {
			if v.sent[i].author != self {
				unread++
			}
		}
		want := wire.ConversationState{Ref: c.Ref(self), Head: uint64(len(v.sent)), Revision: uint64(len(v.sent)),
			Time: v.sent[len(v.sent)-1].time, Unread: unread, Delivered: own[wire.Delivered], Read: own[wire.Read],
			OtherDelivered: other[wire.Delivered], OtherRead: other[wire.Read]}
		if state != want {
			m.t.Fatalf("state of %v for %d:\n%+v, want\n%+v", c, self, state, want)
		}
	}
}

// digest hashes all that a shard holds of some conversations and users. Replicas at the
// same index must have the same.
func digest(r *replica, conversations map[wire.Conversation]*modelConversation, users []wire.ID) string {
	r.t.Helper()
	h := fnv.New64a()
	keys := slices.SortedFunc(maps.Keys(conversations), func(x, y wire.Conversation) int {
		return bytes.Compare(wire.AppendConversation(nil, x), wire.AppendConversation(nil, y))
	})
	err := r.shard.config.Store.View(func(v *storage.Reader) error {
		for _, c := range keys {
			if err := digestConversation(h, v, c); err != nil {
				return err
			}
		}
		for _, u := range users {
			if err := v.List(u, 0, func(l storage.List) error { _, err := fmt.Fprintln(h, l); return err }); err != nil {
				return err
			}
			if err := v.UserIndex(u, 0, func(x storage.UserIndex) error { _, err := fmt.Fprintln(h, x); return err }); err != nil {
				return err
			}
		}
		return v.Outgoing(func(o storage.Outgoing) error { _, err := fmt.Fprintln(h, o); return err })
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprintf("%d: %x", r.shard.Stats().Applied, h.Sum64())
}

func digestConversation(h io.Writer, v *storage.Reader, c wire.Conversation) error {
	record, _, err := v.Conversation(c)
	if err != nil {
		return err
	}
	fmt.Fprintln(h, c, record)
	for _, u := range []wire.ID{c.A, c.B} {
		member, _, err := v.Member(c, u)
		if err != nil {
			return err
		}
		fmt.Fprintln(h, member)
	}
	return v.Messages(c, 1, 1<<40, func(m storage.Message) (bool, error) {
		_, err := fmt.Fprintln(h, m)
		return true, err
	})
}
