package client

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"parley/wire"
)

// A Key names a send: the server accepts each once, however often it is sent. The Ref of
// what makes a group is wire.GroupRef(0).
type Key struct {
	Epoch   uint64
	Ref     wire.Ref
	Counter uint64
}

// An OutboxEntry is a send that the server has not acknowledged.
type OutboxEntry struct {
	Key
	// After is the conversation's head as it was known when the send was queued: the
	// message, if it is there, comes later.
	After   uint64
	Content wire.Content
}

// An OutboxState is all that a store keeps.
type OutboxState struct {
	// Epoch names the outbox that new sends go to; 0: there is none yet.
	Epoch uint64
	// User and Device are whose sends these are, and ClusterEpoch is the server's, as of the
	// last welcome; 0: never welcomed.
	User, Device wire.ID
	ClusterEpoch uint64
	// Counters are the last ones used under Epoch, acknowledged or not.
	Counters map[wire.Ref]uint64
	// Entries are the unacknowledged sends, those of an epoch and conversation in order of
	// their counters. Those of an epoch that came before Epoch stand first.
	Entries []OutboxEntry
	// Holes are the counters of sends that were refused for good while later ones of the
	// same epoch and conversation wait: the server expects those counters for ever.
	Holes []Key
}

// check reports whether a store can have written the state.
func (s *OutboxState) check() error {
	last := map[Key]uint64{} // by epoch and conversation
	former := uint64(0)      // the epoch before Epoch
	for i := range s.Entries {
		e := &s.Entries[i]
		lane := Key{Epoch: e.Epoch, Ref: e.Ref}
		switch {
		case s.Epoch == 0 || e.Epoch == 0 || !e.Ref.Valid() && e.Ref != newGroup || e.Counter <= last[lane]:
		case e.Epoch == s.Epoch && e.Counter > s.Counters[e.Ref]:
		case e.Epoch != s.Epoch && former != 0 && e.Epoch != former:
		default:
			last[lane] = e.Counter
			if e.Epoch != s.Epoch {
				former = e.Epoch
			}
			continue
		}
		return fmt.Errorf("%w: entry %d: %+v", ErrOutboxDamaged, i, e.Key)
	}
	return nil
}

// An OutboxChangeKind tells what an OutboxChange does.
type OutboxChangeKind uint8

// The kinds of changes to an outbox.
const (
	OutboxAdd      OutboxChangeKind = 1 // Entry is new
	OutboxRemove   OutboxChangeKind = 2 // the entry of Key has its outcome
	OutboxRenew    OutboxChangeKind = 3 // new sends go to Key.Epoch; its counters begin at 1
	OutboxCounter  OutboxChangeKind = 4 // the last counter used is Key.Counter
	OutboxIdentity OutboxChangeKind = 5 // User, Device and ClusterEpoch are as given
	OutboxHole     OutboxChangeKind = 6 // the hole of Key's epoch and conversation is at its counter; 0: there is none
	// OutboxRenumber gives the entries of Key.Ref under the epoch From (0: of all epochs), in
	// order, the epoch of Key and counters from its counter on.
	OutboxRenumber OutboxChangeKind = 7
	OutboxSwitch   OutboxChangeKind = 8 // no entry of an epoch before Epoch is left: its own are sent from now on
	OutboxRefuse   OutboxChangeKind = 9 // the entry of Key was refused for good
)

// An OutboxChange is one step in the life of an outbox.
type OutboxChange struct {
	Kind         OutboxChangeKind
	Key          Key
	From         uint64
	Entry        OutboxEntry
	User, Device wire.ID
	ClusterEpoch uint64
}

// An OutboxStore keeps a client's unacknowledged sends. A client calls it from one
// goroutine at a time and owns it until Close.
type OutboxStore interface {
	// Load reads what is kept. It is called once, first.
	Load() (OutboxState, error)
	// Write makes changes, in order: all of them or, if a crash comes between, none. When it
	// returns, those that came with an OutboxAdd, OutboxMove or OutboxRenew survive a crash:
	// the client sends nothing before. After an error the client writes no more.
	Write(changes []OutboxChange) error
	// Close gives the store back.
	Close() error
}

// NewMemoryOutbox keeps sends in memory: they survive lost connections, and end with the
// process.
func NewMemoryOutbox() OutboxStore { return &memoryOutbox{} }

// A memoryOutbox need not keep anything: the client has all of it.
type memoryOutbox struct{}

// Load implements OutboxStore.
func (*memoryOutbox) Load() (OutboxState, error) { return OutboxState{}, nil }

// Write implements OutboxStore.
func (*memoryOutbox) Write([]OutboxChange) error { return nil }

// Close implements OutboxStore.
func (*memoryOutbox) Close() error { return nil }

// An outboxIndex is an OutboxState that changes are applied to.
type outboxIndex struct {
	epoch, clusterEpoch uint64
	user, device        wire.ID
	counters            map[wire.Ref]uint64
	entries             map[Key]OutboxEntry
	holes               map[Key]uint64 // by keys without a counter
	bytes               int            // of contents
}

func newOutboxIndex() *outboxIndex {
	return &outboxIndex{counters: map[wire.Ref]uint64{}, entries: map[Key]OutboxEntry{}, holes: map[Key]uint64{}}
}

func (x *outboxIndex) apply(c *OutboxChange) {
	switch c.Kind {
	case OutboxAdd:
		x.put(c.Entry)
	case OutboxRemove, OutboxRefuse:
		x.remove(c.Key)
	case OutboxRenew:
		x.epoch = c.Key.Epoch
		clear(x.counters)
	case OutboxCounter:
		if c.Key.Epoch == x.epoch {
			x.counters[c.Key.Ref] = c.Key.Counter
		}
	case OutboxHole:
		lane := Key{Epoch: c.Key.Epoch, Ref: c.Key.Ref}
		x.holes[lane] = c.Key.Counter
		if c.Key.Counter == 0 {
			delete(x.holes, lane)
		}
	case OutboxRenumber:
		x.renumber(c.Key, c.From)
	case OutboxIdentity:
		x.user, x.device, x.clusterEpoch = c.User, c.Device, c.ClusterEpoch
	}
}

func (x *outboxIndex) put(entry OutboxEntry) {
	x.entries[entry.Key] = entry
	x.bytes += len(entry.Content.Bytes)
	if entry.Epoch == x.epoch {
		x.counters[entry.Ref] = max(x.counters[entry.Ref], entry.Counter)
	}
}

func (x *outboxIndex) renumber(first Key, from uint64) {
	var entries []OutboxEntry
	for key, entry := range x.entries {
		if key.Ref == first.Ref && (from == 0 || key.Epoch == from) {
			entries = append(entries, entry)
			x.remove(key)
		}
	}
	x.sort(entries)
	for i, entry := range entries {
		entry.Key = Key{Epoch: first.Epoch, Ref: first.Ref, Counter: first.Counter + uint64(i)}
		x.put(entry)
	}
	if first.Epoch == x.epoch {
		x.counters[first.Ref] = first.Counter + uint64(len(entries)) - 1
	}
}

func (x *outboxIndex) remove(key Key) {
	x.bytes -= len(x.entries[key].Content.Bytes)
	delete(x.entries, key)
}

// state lists what is kept, in the order that OutboxState promises.
func (x *outboxIndex) state() OutboxState {
	s := OutboxState{Epoch: x.epoch, User: x.user, Device: x.device, ClusterEpoch: x.clusterEpoch,
		Counters: maps.Clone(x.counters), Entries: slices.Collect(maps.Values(x.entries))}
	for lane, counter := range x.holes {
		s.Holes = append(s.Holes, Key{Epoch: lane.Epoch, Ref: lane.Ref, Counter: counter})
	}
	slices.SortFunc(s.Holes, func(a, b Key) int { return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Ref, b.Ref)) })
	x.sort(s.Entries)
	return s
}

// sort puts entries in the order of OutboxState: former epochs, conversation, counter.
func (x *outboxIndex) sort(entries []OutboxEntry) {
	former := func(e *OutboxEntry) int {
		if e.Epoch == x.epoch {
			return 1
		}
		return 0
	}
	slices.SortFunc(entries, func(a, b OutboxEntry) int {
		return cmp.Or(former(&a)-former(&b), cmp.Compare(a.Ref, b.Ref), cmp.Compare(a.Counter, b.Counter))
	})
}
