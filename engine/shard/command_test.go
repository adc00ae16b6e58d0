package shard

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"slices"
	"testing"

	"parley/raft"
	"parley/wire"
)

// appendCommand is the inverse of decoder.command.
func appendCommand(dst []byte, c *command) []byte {
	switch c.kind {
	case commandSend, commandGroup:
		content := c.content
		if c.tooLarge {
			content.Bytes = make([]byte, wire.ContentBytesMax+1)
		}
		return appendSend(dst, &Send{Conversation: c.conversation, Author: c.user, Device: c.device, Epoch: c.epoch, Counter: c.number,
			PeerKnown: c.peerKnown, Event: c.kind == commandGroup, Content: content})
	case commandJoin:
		return appendSend(dst, &Send{Conversation: c.conversation, Author: c.user, Secret: c.secret})
	case commandOwn:
		return appendSend(dst, &Send{Conversation: c.conversation, Author: c.user, Ask: c.ask})
	case commandCursor:
		return appendCursor(dst, &Cursor{Conversation: c.conversation, User: c.user, Kind: c.cursorKind, Position: c.number})
	case commandCreateUser:
		return appendCreateUser(dst, c.user, string(c.name), string(c.hash))
	case commandListAdd, commandListGone:
		return appendList(dst, c)
	case commandOutgoingDone:
		return appendOutgoingDone(dst, c.number)
	}
	panic("unknown kind")
}

// sampleCommands is one of each kind, in different forms.
func sampleCommands() []byte {
	direct := wire.DirectConversation(7, 1<<47)
	b := appendSend(nil, &Send{Conversation: direct, Author: 7, Device: 9, Epoch: 1 << 63, Counter: 300, PeerKnown: true, Content: wire.Text("hello")})
	b = appendSend(b, &Send{Conversation: wire.GroupRef(5).Conversation(7), Author: 7, Device: 9, Epoch: 1, Counter: 1,
		Content: wire.Content{Extended: true, Bytes: wire.AppendContent(nil, wire.AppendExtension(nil, wire.TagReplyTo, []byte{4}), []byte("re"))}})
	b = appendSend(b, &Send{Conversation: direct, Author: 7, Device: 9, Content: wire.Content{Bytes: make([]byte, wire.ContentBytesMax+1)}})
	b = appendCursor(b, &Cursor{Conversation: direct, User: 7, Kind: wire.Read, Position: 1 << 40})
	b = appendCreateUser(b, 99, "zoe", "$argon2id$")
	b = appendList(b, &command{kind: commandListAdd, user: 7, conversation: direct, version: 1, from: shardIDMax, number: 1 << 50})
	return appendOutgoingDone(b, 1<<50)
}

func sampleEntry() []byte { return sealedEntry(sampleCommands()) }

func sealedEntry(commands []byte) []byte {
	entry := appendEntryHeader(nil, 1<<60|5, 12345)
	entry = append(entry, commands...)
	sealEntry(entry)
	return entry
}

// groupCommands is one of each kind that came with groups.
func groupCommands() []byte {
	group := wire.GroupRef(5).Conversation(7)
	event := wire.EventContent(wire.AppendEvent(nil, &wire.Event{Kind: wire.EventCreate, Flags: wire.GroupHistory, Text: "us", Users: []wire.ID{8, 9}}))
	b := appendSend(nil, &Send{Conversation: group, Author: 7, Device: 9, Epoch: 1 << 63, Counter: 1, Event: true, Content: event})
	b = appendSend(b, &Send{Conversation: group, Author: 8, Secret: []byte("sixteen bytes ok")})
	b = appendList(b, &command{kind: commandListGone, user: 7, conversation: group, version: 3, from: 1, number: 1 << 50})
	return appendAllCursors(b, []Cursor{{Conversation: group, User: 7, Position: 1, Kind: wire.Read},
		{Conversation: group, User: 1 << 47, Position: 1 << 40}})
}

func TestEntryRoundTrip(t *testing.T) {
	origin, time, commands, err := parseEntry(nil, sampleEntry())
	if err != nil || origin != 1<<60|5 || time != 12345 || len(commands) != 7 {
		t.Fatalf("%d commands of %d at %d: %v", len(commands), origin, time, err)
	}
	var again []byte
	for i := range commands {
		again = appendCommand(again, &commands[i])
	}
	if !bytes.Equal(again, sampleCommands()) {
		t.Fatalf("commands changed:\n%x\n%x", again, sampleCommands())
	}
	if c := commands[2]; !c.tooLarge || len(c.content.Bytes) != 0 {
		t.Fatalf("a body beyond the limit is carried: %d bytes", len(c.content.Bytes))
	}
}

// Cursors of one group travel together and are applied as if they came alone.
func TestGroupCommandsRoundTrip(t *testing.T) {
	commands, err := parseCommands(groupCommands())
	if err != nil || len(commands) != 5 {
		t.Fatalf("%d commands: %v", len(commands), err)
	}
	var again []byte
	for i := range commands {
		again = appendCommand(again, &commands[i])
	}
	alone, err := parseCommands(again)
	if err != nil || !reflect.DeepEqual(alone, commands) {
		t.Fatalf("%+v became %+v (%v)", commands, alone, err)
	}
	for _, bad := range [][]byte{
		appendCursors(nil, []Cursor{{Conversation: wire.GroupRef(5).Conversation(7), User: 7}}),
		appendCursors(nil, []Cursor{{Conversation: wire.DirectConversation(6, 7), User: 7}, {Conversation: wire.DirectConversation(6, 7), User: 6}}),
		appendCursors(nil, make([]Cursor, 3)),
		appendSend(nil, &Send{Conversation: wire.DirectConversation(6, 7), Author: 7, Device: 9, Event: true}),
		appendSend(nil, &Send{Conversation: wire.DirectConversation(6, 7), Author: 7, Secret: []byte("x")}),
		append(appendJoin(nil, &Send{Conversation: wire.GroupRef(5).Conversation(7), Author: 7}), 0),
	} {
		if commands, err := parseCommands(bad); !errors.Is(err, ErrBadEntry) {
			t.Errorf("%x was read as %+v (%v)", bad, commands, err)
		}
	}
}

// ownCommands are what users ask for of conversations alone.
func ownCommands() []byte {
	b := appendSend(nil, &Send{Conversation: wire.DirectConversation(7, 8), Author: 8, Ask: &Ask{Kind: AskSettings, Version: 300, Flags: wire.OwnMuted, MutedUntil: 1 << 40}})
	return appendSend(b, &Send{Conversation: wire.GroupRef(5).Conversation(7), Author: 7, Ask: &Ask{Kind: AskSettings}})
}

func TestOwnCommandsRoundTrip(t *testing.T) {
	commands, err := parseCommands(ownCommands())
	if err != nil || len(commands) != 2 {
		t.Fatalf("%d commands: %v", len(commands), err)
	}
	var again []byte
	for i := range commands {
		again = appendCommand(again, &commands[i])
	}
	if !bytes.Equal(again, ownCommands()) {
		t.Fatalf("commands changed:\n%x\n%x", again, ownCommands())
	}
	q := NewQueue(1<<40, func() wire.Time { return 1 }, func() {})
	q.lead()
	for _, ask := range badAsks() {
		m := Send{Conversation: wire.DirectConversation(7, 8), Author: 8, Device: 1, Ask: &ask}
		if err := q.Send(&m); !errors.Is(err, ErrBadCommand) {
			t.Errorf("%+v was queued: %v", ask, err)
		}
		if commands, err := parseCommands(appendSend(nil, &m)); !errors.Is(err, ErrBadEntry) {
			t.Errorf("%+v was read as %+v (%v)", ask, commands, err)
		}
		if got, err := ParseAsk(AppendAsk(nil, &ask)); !errors.Is(err, ErrBadEntry) {
			t.Errorf("%+v was read as %+v (%v)", ask, got, err)
		}
	}
	if got, err := ParseAsk(append(AppendAsk(nil, &Ask{Kind: AskSettings}), 0)); !errors.Is(err, ErrBadEntry) {
		t.Errorf("with a byte too many it was read as %+v (%v)", got, err)
	}
}

// badAsks are what nobody may ask for.
func badAsks() []Ask {
	return []Ask{{}, {Kind: askKindsEnd}, {Kind: AskSettings, Flags: wire.OwnSettingsMask + 1}, {Kind: AskSettings, MutedUntil: 5},
		{Kind: AskSettings, Version: wire.NumberMax + 1}, {Kind: AskSettings, Flags: wire.OwnMuted, MutedUntil: wire.NumberMax + 1}}
}

// TestDamagedEntryStops flips every bit of an entry and cuts it everywhere.
func TestDamagedEntryStops(t *testing.T) {
	entry := sampleEntry()
	for i := range 8 * len(entry) {
		damaged := bytes.Clone(entry)
		damaged[i/8] ^= 1 << (i % 8)
		if _, _, _, err := parseEntry(nil, damaged); !errors.Is(err, ErrBadEntry) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
	}
	for i := range entry {
		if _, _, _, err := parseEntry(nil, entry[:i]); !errors.Is(err, ErrBadEntry) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

// TestBadEntryStopsTheReplica shows that nothing of a bad entry, and nothing after it,
// is applied, and that who waits is told.
func TestBadEntryStopsTheReplica(t *testing.T) {
	r := newReplica(t, 0, 0, wire.Slots-1)
	r.lead()
	r.send(&Send{Origin: Origin{Session: 3, Correlation: 4}, Conversation: wire.DirectConversation(1, 2), Author: 1, Device: 1, Epoch: 1, Counter: 1,
		PeerKnown: true, Content: wire.Text("x")})
	good, _ := r.pack()
	bad := bytes.Clone(good[0].Data)
	bad = append(bad, 200) // a command of a kind to come
	sealEntry(bad)
	if err := r.shard.Apply([]raft.Entry{{Index: 1, Term: 1, Data: bad}}); !errors.Is(err, ErrBadEntry) {
		t.Fatalf("a bad entry was applied: %v", err)
	}
	if err := r.shard.Apply(good); !errors.Is(err, ErrBadEntry) {
		t.Fatalf("an entry was applied after a bad one: %v", err)
	}
	if effects := r.sink.take(); len(effects) > 0 {
		t.Fatalf("effects of a bad entry: %+v", effects[0])
	}
	if err := r.shard.Close(); err != nil {
		t.Fatal(err)
	}
	effects := r.sink.take()
	if len(effects) != 1 || len(effects[0].Refused) != 1 || effects[0].Refused[0].Code != wire.CodeTimeout {
		t.Fatalf("who waited was told %+v", effects)
	}
}

// TestEntryIsAppliedOnce shows that an entry which the state has already changes nothing,
// whatever the log replays.
func TestEntryIsAppliedOnce(t *testing.T) {
	r := newReplica(t, 0, 0, wire.Slots-1)
	r.lead()
	r.send(&Send{Origin: Origin{Session: 3, Correlation: 4}, Conversation: wire.DirectConversation(1, 2), Author: 1, Device: 1, Epoch: 1, Counter: 1,
		PeerKnown: true, Content: wire.Text("x")})
	r.run()
	r.apply(r.log...)
	if effects := r.sink.take(); len(effects) > 0 {
		t.Fatalf("an entry was applied twice: %+v", effects[0])
	}
	if err := r.shard.Configure(9, 2, []byte("voters")); err != nil {
		t.Fatal(err)
	}
	r.flush()
	if got := r.shard.Record(); got.Index != 9 || got.Term != 2 || got.ConfigurationIndex != 9 || string(got.Configuration) != "voters" {
		t.Fatalf("record is %+v", got)
	}
}

// FuzzEntry gives the decoder entries with a right checksum, so that it sees everything
// behind it: it never panics, and what it takes has one encoding.
func FuzzEntry(f *testing.F) {
	f.Add(sampleEntry())
	f.Add(sampleEntry()[:40])
	f.Add([]byte{entryVersion})
	f.Add(append(appendEntryHeader(nil, 1, 2), byte(commandCursor), 0, 0, 0, 0, 0, 0, 1))
	f.Add(sealedEntry(groupCommands()))
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) >= entryChecksumEnd && src[0] == entryVersion {
			sealEntry(src)
		}
		origin, time, commands, err := parseEntry(nil, src)
		if err != nil {
			if !errors.Is(err, ErrBadEntry) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		again := appendEntryHeader(nil, origin, time)
		for i := range commands {
			again = appendCommand(again, &commands[i])
		}
		sealEntry(again)
		if bytes.Equal(again, src) {
			return
		}
		// Cursors of a group come alone or together.
		_, _, alone, err := parseEntry(nil, again)
		group := slices.ContainsFunc(commands, func(c command) bool {
			return c.kind == commandCursor && c.conversation.Kind == wire.Group
		})
		if err != nil || !group || !reflect.DeepEqual(alone, commands) {
			t.Fatalf("%x was read as %x (%v)", src, again, err)
		}
	})
}

// FuzzApply applies entries that decode but say anything: no panic, no error but
// ErrBadEntry, and the shard goes on.
func FuzzApply(f *testing.F) {
	f.Add(sampleCommands())
	f.Add(groupCommands())
	f.Add(appendList(nil, &command{kind: commandListAdd, user: wire.MakeID(4000, 1), conversation: wire.DirectConversation(1, 2), number: 1}))
	f.Fuzz(func(t *testing.T, commands []byte) {
		if len(commands) > EntryBytesMax {
			return
		}
		r := newReplica(t, 0, 0, 2047)
		r.lead()
		entry := append(appendEntryHeader(nil, 5, 77), commands...)
		sealEntry(entry)
		if err := r.shard.Apply([]raft.Entry{{Index: 1, Term: 1, Data: entry}}); err != nil {
			if !errors.Is(err, ErrBadEntry) {
				t.Fatalf("applying failed: %v", err)
			}
			return
		}
		if got := binary.LittleEndian.Uint64(entry[entryChecksumEnd:]); got != 5 {
			t.Fatalf("the entry was changed: origin %d", got)
		}
		r.flush()
	})
}

// TestEncodingIsFrozen compares an entry and a hash of a forgotten outbox with those of
// the first version: logs and records of it must be read for ever.
func TestEncodingIsFrozen(t *testing.T) {
	for path, entry := range map[string][]byte{"testdata/entry_v1.hex": sampleEntry(), "testdata/entry_groups.hex": sealedEntry(groupCommands())} {
		got := hex.EncodeToString(entry) + "\n"
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got != string(want) {
			t.Fatalf("the encoding of an entry has changed (%v):\n%s\n%s", err, got, want)
		}
	}
	key := wire.DirectConversation(3, 4)
	if a, b := outboxHash(key, 3, 17, 0xfeedface), outboxHash(key, 4, 17, 0xfeedface); a != 0x8b74fe6a || b != 0x8dd4cf51 {
		t.Fatalf("hashes of outboxes have changed: %#x %#x", a, b)
	}
}

func TestConfigIsChecked(t *testing.T) {
	r := newReplica(t, 0, 0, wire.Slots-1)
	good := r.shard.config
	for name, spoil := range map[string]func(*Config){
		"store": func(c *Config) { c.Store = nil },
		"clock": func(c *Config) { c.Now = nil },
		"sink":  func(c *Config) { c.Sink = nil },
		"order": func(c *Config) { c.First, c.Last = 5, 4 },
		"slots": func(c *Config) { c.Last = wire.Slots },
		"id":    func(c *Config) { c.ID = shardIDMax + 1 },
	} {
		bad := good
		spoil(&bad)
		if _, err := Open(bad); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
