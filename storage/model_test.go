package storage

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"parley/wire"
)

// A universe is the few users and conversations that the tests play with, so that the same
// keys are written again and again. Everything derives from fixed seeds.
type universe struct {
	users         []wire.ID
	names         []string
	conversations []wire.Conversation
}

func newUniverse(shards int) *universe {
	r := rand.New(rand.NewPCG(7, 9))
	u := &universe{}
	for i := range 6 {
		name := fmt.Sprintf("user%d", i)
		if i%3 == 2 { // longer than a packed key, and alike in the first 24 bytes
			name = fmt.Sprintf("a-name-that-is-longer-than-a-packed-key-%d", i)
		}
		u.names = append(u.names, name)
		u.users = append(u.users, wire.MakeID(nameSlot(name), r.Uint64()))
	}
	for i, a := range u.users {
		for _, b := range u.users[:i] {
			u.conversations = append(u.conversations, wire.DirectConversation(a, b))
		}
	}
	for range 4 * shards {
		group := wire.MakeID(wire.Slot(r.IntN(wire.Slots)), r.Uint64())
		u.conversations = append(u.conversations, wire.Conversation{Kind: wire.Group, A: group})
	}
	return u
}

// A model is a shard as plain maps. step makes the next log entry out of a number, so that
// the same numbers always make the same state.
type model struct {
	*universe
	first, last wire.Slot

	record        Record
	users         map[wire.ID]User
	names         map[string]wire.ID
	lists         map[wire.ID]map[wire.Conversation]List
	index         map[wire.ID]map[wire.Conversation]UserIndex
	conversations map[wire.Conversation]Conversation
	members       map[wire.Conversation]map[wire.ID]Member
	messages      map[wire.Conversation][]Message
	groups        map[wire.Conversation]Group
	memories      map[wire.Conversation]map[wire.ID]Memory
	outgoing      map[uint64]Outgoing
	number        uint64
	incoming      map[uint32]uint64
	changes       []func(w *Writer)
}

func newModel(u *universe, first, last wire.Slot) *model {
	m := &model{
		universe: u, first: first, last: last,
		users:         map[wire.ID]User{},
		names:         map[string]wire.ID{},
		lists:         map[wire.ID]map[wire.Conversation]List{},
		index:         map[wire.ID]map[wire.Conversation]UserIndex{},
		conversations: map[wire.Conversation]Conversation{},
		members:       map[wire.Conversation]map[wire.ID]Member{},
		messages:      map[wire.Conversation][]Message{},
		groups:        map[wire.Conversation]Group{},
		memories:      map[wire.Conversation]map[wire.ID]Memory{},
		outgoing:      map[uint64]Outgoing{},
		incoming:      map[uint32]uint64{},
	}
	return m
}

func (m *model) owns(slot wire.Slot) bool { return slot >= m.first && slot <= m.last }

// ownConversations are those of the universe that live in the shard.
func (m *model) ownConversations() []wire.Conversation {
	return slices.DeleteFunc(slices.Clone(m.universe.conversations), func(c wire.Conversation) bool {
		return !m.owns(c.Slot())
	})
}

func (m *model) ownUsers() []int {
	var own []int
	for i, id := range m.universe.users {
		if m.owns(id.Slot()) {
			own = append(own, i)
		}
	}
	return own
}

func (m *model) do(change func(w *Writer)) { m.changes = append(m.changes, change) }

// step applies one entry to the model and returns the update that does the same.
func (m *model) step(seed uint64) func(w *Writer) error {
	r := rand.New(rand.NewPCG(seed, m.record.Index))
	m.changes = nil
	for range 1 + r.IntN(6) {
		switch r.IntN(14) {
		case 0:
			m.stepUser(r)
		case 1:
			m.stepOutgoing(r)
		case 2:
			m.stepRest(r)
		case 3, 4:
			m.stepMember(r)
		case 5, 6:
			m.stepGroup(r)
		default:
			m.stepMessages(r)
		}
	}
	m.record.Index += 1 + uint64(r.IntN(3)) // configurations and barriers take indexes too
	m.record.Term = m.record.Index / 7
	index, term := m.record.Index, m.record.Term
	m.do(func(w *Writer) { w.SetApplied(index, term) })
	if r.IntN(20) == 0 {
		configuration := fmt.Appendf(nil, "configuration %d", index)
		m.record.ConfigurationIndex, m.record.Configuration = index, configuration
		m.do(func(w *Writer) { w.SetConfiguration(index, configuration) })
	}
	changes := m.changes
	return func(w *Writer) error {
		for _, change := range changes {
			change(w)
		}
		return nil
	}
}

func (m *model) stepUser(r *rand.Rand) {
	own := m.ownUsers()
	if len(own) == 0 {
		return
	}
	i := own[r.IntN(len(own))]
	id := m.universe.users[i]
	u := User{ID: id, Name: m.universe.names[i], Version: m.record.Index, Hash: fmt.Sprint("$argon2id$", r.Uint64()), Created: 5}
	m.users[id], m.names[u.Name] = u, id
	m.do(func(w *Writer) { w.PutUser(&u); w.PutName(u.Name, id) })
}

func (m *model) stepOutgoing(r *rand.Rand) {
	if numbers := slices.Sorted(maps.Keys(m.outgoing)); len(numbers) > 0 && r.IntN(2) == 0 {
		number := numbers[r.IntN(len(numbers))]
		delete(m.outgoing, number)
		m.do(func(w *Writer) { w.DeleteOutgoing(number) })
		return
	}
	m.number++
	o := Outgoing{Number: m.number, Target: wire.Slot(r.IntN(wire.Slots)), Command: fmt.Appendf(nil, "command %d", r.Uint64())}
	m.outgoing[o.Number] = o
	m.do(func(w *Writer) { w.PutOutgoing(&o) })
}

func (m *model) stepRest(r *rand.Rand) {
	from, number := uint32(r.IntN(3)), m.record.Index
	m.incoming[from] = number
	m.do(func(w *Writer) { w.PutIncoming(from, number) })
	own := slices.Sorted(maps.Keys(m.users))
	if len(own) == 0 {
		return
	}
	user := own[r.IntN(len(own))]
	c := m.universe.conversations[r.IntN(len(m.universe.conversations))]
	if c.Kind == wire.Direct && !c.Member(user) {
		return
	}
	l := List{User: user, Conversation: c, Version: m.record.Index, Changed: m.record.Index + 1, Gone: c.Kind == wire.Group && r.IntN(3) == 0}
	if m.lists[user] == nil {
		m.lists[user] = map[wire.Conversation]List{}
	}
	m.lists[user][c] = l
	m.do(func(w *Writer) { w.PutList(&l) })
}

func (m *model) author(r *rand.Rand, c wire.Conversation) wire.ID {
	if c.Kind == wire.Group {
		return m.universe.users[r.IntN(len(m.universe.users))]
	}
	if r.IntN(2) == 0 {
		return c.A
	}
	return c.B
}

func (m *model) stepMember(r *rand.Rand) {
	own := m.ownConversations()
	c := own[r.IntN(len(own))]
	v, ok := m.conversations[c]
	if !ok {
		return
	}
	user := m.author(r, c)
	n := m.members[c][user]
	if c.Kind == wire.Group && n.Role == wire.RoleNone {
		return
	}
	n.Delivered, n.Read = Cursor{Position: v.Head}, Cursor{Position: v.Head}
	n.Own = someOwn(r)
	for i := range uint64(r.IntN(StepsMax)) {
		if i < v.Head {
			n.Read.Steps = append(n.Read.Steps, Step{Position: i + 1, Time: wire.Time(100 + i)})
		}
	}
	if m.members[c] == nil {
		m.members[c] = map[wire.ID]Member{}
	}
	m.members[c][user] = n
	m.do(func(w *Writer) { w.PutMember(c, user, &n) })
}

func (m *model) stepMessages(r *rand.Rand) {
	own := m.ownConversations()
	c := own[r.IntN(len(own))]
	v := m.conversations[c]
	for range 1 + r.IntN(5) {
		v.Head++
		v.Revision += 1
		if r.IntN(8) == 0 {
			v.Revision += uint64(r.IntN(300))
		}
		v.Time += wire.Time(r.IntN(100_000))
		msg := Message{Sequence: v.Head, Revision: v.Revision, Time: v.Time, Author: m.author(r, c)}
		if v.Head > 1 && r.IntN(3) > 0 {
			msg.Previous = 1 + r.Uint64N(v.Head-1)
		}
		size := r.IntN(100)
		if r.IntN(30) == 0 {
			size = r.IntN(wire.ContentBytesMax + 1)
		}
		msg.Content.Bytes = make([]byte, size)
		step := byte(r.IntN(256))
		for i := range msg.Content.Bytes {
			msg.Content.Bytes[i] = byte('a'+i) * step
		}
		msg.Content.Extended = r.IntN(10) == 0
		sentA := v.SentA
		m.messages[c] = append(m.messages[c], msg)
		m.do(func(w *Writer) { w.AppendMessage(c, sentA, &msg) })
		if c.Kind == wire.Direct && msg.Author == c.A {
			v.SentA++
		}
		v.Outboxes = []Outbox{{Author: msg.Author, Device: 9, Epoch: 1, Counter: v.Head, Sequence: v.Head}}
	}
	v.Changed = m.record.Index
	v.Evicted = []uint32{uint32(r.IntN(3))}
	if c.Kind == wire.Group {
		m.written(c, &v)
		return
	}
	m.conversations[c] = v
	m.do(func(w *Writer) { w.PutConversation(c, &v) })
	user := m.author(r, c)
	u := UserIndex{User: user, Conversation: c, Changed: m.record.Index + 1, Time: v.Time}
	if m.index[user] == nil {
		m.index[user] = map[wire.Conversation]UserIndex{}
	}
	m.index[user][c] = u
	m.do(func(w *Writer) { w.PutUserIndex(&u) })
}

// byKey sorts conversations as their keys do.
func byKey(x, y wire.Conversation) int {
	return slices.Compare(wire.AppendConversation(nil, x), wire.AppendConversation(nil, y))
}

func values[K comparable, V any](m map[K]V, compare func(x, y K) int) (list []V) {
	for _, k := range slices.SortedFunc(maps.Keys(m), compare) {
		list = append(list, m[k])
	}
	return list
}

// compare holds everything that a reader sees against the model.
func (m *model) compare(r *Reader) error {
	got := newModel(m.universe, m.first, m.last)
	got.record = r.Applied()
	got.number = m.number
	for i, id := range m.universe.users {
		if err := m.readUser(r, got, i, id); err != nil {
			return err
		}
	}
	for _, c := range m.ownConversations() {
		if err := m.readConversation(r, got, c); err != nil {
			return err
		}
	}
	last := uint64(0)
	err := r.Outgoing(func(o Outgoing) error {
		if o.Number <= last {
			return fmt.Errorf("outgoing %d after %d", o.Number, last)
		}
		o.Command = slices.Clone(o.Command)
		last, got.outgoing[o.Number] = o.Number, o
		return nil
	})
	if err != nil {
		return err
	}
	for from := range uint32(3) {
		n, err := r.Incoming(from)
		if err != nil {
			return err
		}
		if n > 0 || m.incoming[from] == 0 && mapHas(m.incoming, from) {
			got.incoming[from] = n
		}
	}
	got.changes = m.changes
	if diff := differ(m, got); diff != "" {
		return fmt.Errorf("model (-) and shard (+) differ: %s", diff)
	}
	return nil
}

// differ shows how two values differ. Package cmp makes it readable, but is far too slow to
// find out whether they do.
func differ(want, got any) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.AllowUnexported(model{}),
		cmpopts.IgnoreFields(model{}, "universe", "changes"))
}

func mapHas[K comparable, V any](m map[K]V, k K) bool { _, ok := m[k]; return ok }

func (m *model) readUser(r *Reader, got *model, i int, id wire.ID) error {
	var lists []List
	var index []UserIndex
	err := r.List(id, 0, func(l List) error { lists = append(lists, l); return nil })
	if m.owns(id.Slot()) == errors.Is(err, ErrMisuse) {
		return fmt.Errorf("list of %v: %w", id, err)
	}
	if err := r.UserIndex(id, 0, func(u UserIndex) error { index = append(index, u); return nil }); err != nil {
		return err
	}
	var groups []UserIndex
	if err := r.UserGroups(id, func(u UserIndex) error { groups = append(groups, u); return nil }); err != nil {
		return err
	}
	direct := slices.IndexFunc(index, func(u UserIndex) bool { return u.Conversation.Kind == wire.Group })
	if direct >= 0 || len(groups) > 0 {
		if diff := differ(index[max(0, direct):], groups); diff != "" {
			return fmt.Errorf("groups of %v: %s", id, diff)
		}
	}
	if diff := differ(values(m.lists[id], byKey), lists); diff != "" {
		return fmt.Errorf("list of %v: %s", id, diff)
	}
	if diff := differ(values(m.index[id], byKey), index); diff != "" {
		return fmt.Errorf("user index of %v: %s", id, diff)
	}
	if err := readRows(r, lists, index); err != nil {
		return err
	}
	if err := m.readSince(r, id, m.record.Index/2, lists, index); err != nil {
		return err
	}
	got.lists, got.index = m.lists, m.index
	if !m.owns(id.Slot()) {
		return nil
	}
	u, ok, err := r.User(id)
	if err != nil {
		return err
	}
	if ok {
		got.users[id] = u
	}
	name, ok, err := r.UserByName(m.universe.names[i])
	if ok {
		got.names[m.universe.names[i]] = name
	}
	return err
}

// readSince reads the rows that changed after an index, of which there must be neither
// less nor more.
func (m *model) readSince(r *Reader, id wire.ID, since uint64, lists []List, index []UserIndex) error {
	var someLists []List
	var someIndex []UserIndex
	if m.owns(id.Slot()) {
		if err := r.List(id, since, func(l List) error { someLists = append(someLists, l); return nil }); err != nil {
			return err
		}
	}
	if err := r.UserIndex(id, since, func(u UserIndex) error { someIndex = append(someIndex, u); return nil }); err != nil {
		return err
	}
	lists = slices.DeleteFunc(slices.Clone(lists), func(l List) bool { return l.Changed <= since })
	index = slices.DeleteFunc(slices.Clone(index), func(u UserIndex) bool { return u.Changed <= since })
	if diff := differ(lists, someLists); diff != "" && len(lists)+len(someLists) > 0 {
		return fmt.Errorf("list of %v since %d: %s", id, since, diff)
	}
	if diff := differ(index, someIndex); diff != "" && len(index)+len(someIndex) > 0 {
		return fmt.Errorf("user index of %v since %d: %s", id, since, diff)
	}
	return nil
}

func (m *model) readConversation(r *Reader, got *model, c wire.Conversation) error {
	v, ok, err := r.Conversation(c)
	if err != nil {
		return err
	}
	if ok {
		got.conversations[c] = v
	}
	if err := m.readGroup(r, got, c); err != nil {
		return err
	}
	for _, user := range m.universe.users {
		if c.Kind == wire.Direct && !c.Member(user) {
			continue
		}
		n, ok, err := r.Member(c, user)
		if err != nil {
			return err
		}
		if ok {
			if got.members[c] == nil {
				got.members[c] = map[wire.ID]Member{}
			}
			got.members[c][user] = n
		}
	}
	all, err := readMessages(r.Messages, c, 0, 1<<63)
	if err != nil {
		return err
	}
	if len(all) > 0 {
		got.messages[c] = all
	}
	if diff := differ(m.messages[c], all); diff != "" {
		return fmt.Errorf("messages of %v: %s", c, diff)
	}
	return m.readRanges(r, c, v)
}

// readRanges reads parts of a conversation in both directions, and counts authors.
func (m *model) readRanges(r *Reader, c wire.Conversation, v Conversation) error {
	random := rand.New(rand.NewPCG(v.Head, uint64(c.A)))
	for range 3 {
		from := random.Uint64N(v.Head + 2)
		to := from + random.Uint64N(v.Head+2)
		var want []Message
		sentA := uint64(0)
		for _, msg := range m.messages[c] {
			if msg.Sequence >= from && msg.Sequence <= to {
				want = append(want, msg)
			}
			if msg.Sequence <= from && msg.Author == c.A {
				sentA++
			}
		}
		forward, err := readMessages(r.Messages, c, from, to)
		if err != nil {
			return err
		}
		backward, err := readMessages(r.MessagesBackward, c, from, to)
		if err != nil {
			return err
		}
		slices.Reverse(backward)
		if diff := differ(want, forward); diff != "" {
			return fmt.Errorf("%v %d..%d forward: %s", c, from, to, diff)
		}
		if diff := differ(want, backward); diff != "" {
			return fmt.Errorf("%v %d..%d backward: %s", c, from, to, diff)
		}
		count, err := r.SentBefore(c, from)
		if err != nil {
			return err
		}
		if c.Kind == wire.Direct && count != sentA {
			return fmt.Errorf("%v: sent before %d: %d, want %d", c, from, count, sentA)
		}
	}
	return nil
}

type reading func(wire.Conversation, uint64, uint64, func(Message) (bool, error)) error

func readMessages(read reading, c wire.Conversation, from, to uint64) (list []Message, err error) {
	err = read(c, from, to, func(msg Message) (bool, error) {
		msg.Content.Bytes = slices.Clone(msg.Content.Bytes)
		list = append(list, msg)
		return true, nil
	})
	return list, err
}

// quiet is a logger that says nothing.
func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// openTest opens a store that fails the test if it fails.
func openTest(t testing.TB, fs vfs.FS, path string, bufferBytes int64) *Store {
	t.Helper()
	s, err := Open(Options{Path: path, FS: fs, Logger: quiet(), BufferBytesMax: bufferBytes,
		Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fsckTest fails the test for each finding.
func fsckTest(t testing.TB, fs vfs.FS, path string) Summary {
	t.Helper()
	sum, err := Fsck(t.Context(), path, fs, func(f Finding) { t.Errorf("fsck: %v", f) })
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
