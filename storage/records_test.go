package storage

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/wire"
)

var genID = rapid.Map(rapid.Uint64Range(1, 1<<wire.IDBits-1), func(n uint64) wire.ID { return wire.ID(n) })

func genCursor(t *rapid.T) Cursor {
	c := Cursor{Position: rapid.Uint64().Draw(t, "position")}
	for range rapid.IntRange(0, StepsMax).Draw(t, "steps") {
		c.Steps = append(c.Steps, Step{rapid.Uint64().Draw(t, "step"), wire.Time(rapid.Uint64().Draw(t, "time"))})
	}
	return c
}

func genMembership(t *rapid.T) Membership {
	if rapid.Bool().Draw(t, "direct") {
		return Membership{}
	}
	n := rapid.Uint64()
	role := wire.Role(rapid.IntRange(0, int(wire.RoleOwner)).Draw(t, "role"))
	return Membership{role, role == wire.RoleNone, n.Draw(t, "from"), n.Draw(t, "joined"), wire.Time(n.Draw(t, "since"))}
}

func genOwn(t *rapid.T) Own {
	n := rapid.OneOf(rapid.Just[uint64](0), rapid.Uint64())
	return Own{n.Draw(t, "own flags"), n.Draw(t, "own version"), wire.Time(n.Draw(t, "muted until"))}
}

func genGroup(t *rapid.T) Group {
	n, text := rapid.Uint64(), rapid.StringN(0, 20, 100)
	g := Group{Version: n.Draw(t, "version"), Flags: n.Draw(t, "flags"), Members: n.Draw(t, "members"),
		Creation: Creation{genID.Draw(t, "creator"), genID.Draw(t, "device"), n.Draw(t, "epoch"), n.Draw(t, "counter")},
		Created:  wire.Time(n.Draw(t, "created")), Title: text.Draw(t, "title"), Description: text.Draw(t, "description"), Picture: text.Draw(t, "picture")}
	if rapid.Bool().Draw(t, "owned") {
		g.Owner = genID.Draw(t, "owner")
	}
	if rapid.Bool().Draw(t, "link") {
		g.Link = Link{LinkHash{1, rapid.Byte().Draw(t, "hash")}, wire.Time(n.Draw(t, "expires")), n.Draw(t, "left")}
	}
	return g
}

func memberOf(b []byte) (m Member, err error) { return m, parseMember(b, &m) }

func genConversation(t *rapid.T) Conversation {
	n := rapid.Uint64()
	c := Conversation{
		Head: n.Draw(t, "head"), Revision: n.Draw(t, "revision"), Time: wire.Time(n.Draw(t, "time")),
		Changed: n.Draw(t, "changed"), SentA: n.Draw(t, "sent"),
	}
	for range rapid.IntRange(0, 40).Draw(t, "outboxes") {
		c.Outboxes = append(c.Outboxes, Outbox{
			genID.Draw(t, "author"), genID.Draw(t, "device"), n.Draw(t, "epoch"), n.Draw(t, "counter"), n.Draw(t, "sequence"),
		})
	}
	if evicted := rapid.SliceOfN(rapid.Uint32(), 0, 20).Draw(t, "evicted"); len(evicted) > 0 {
		c.Evicted = evicted
	}
	return c
}

// again checks that a value parses to what it was made of.
func again[T any](t *rapid.T, want T, value []byte, parse func([]byte) (T, error)) {
	got, err := parse(value)
	if err != nil {
		t.Fatalf("%+v does not parse: %v", want, err)
	}
	if diff := differ(want, got); diff != "" {
		t.Fatal(diff)
	}
	for _, bad := range [][]byte{nil, value[:1], append([]byte{9}, value[1:]...)} {
		if _, err := parse(bad); err == nil && !bytes.Equal(bad, value) {
			t.Fatalf("%x parses", bad)
		}
	}
}

func TestRecordsParseToWhatTheyWereMadeOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64()
		slot := rapid.Map(rapid.IntRange(0, wire.Slots-1), func(i int) wire.Slot { return wire.Slot(i) })
		some := rapid.SliceOfN(rapid.Byte(), 1, 200)
		id := genID.Draw(t, "id")
		c := wire.Conversation{Kind: wire.Group, A: id}

		r := shardRecord{Record{n.Draw(t, "index"), n.Draw(t, "term"), n.Draw(t, "at"), some.Draw(t, "configuration")},
			rapid.Uint32().Draw(t, "shard"), slot.Draw(t, "last")}
		again(t, r, appendShardRecord(nil, &r), parseShardRecord)

		o := Outgoing{n.Draw(t, "number"), slot.Draw(t, "target"), some.Draw(t, "command")}
		again(t, o, appendOutgoing(nil, &o), func(b []byte) (Outgoing, error) { return parseOutgoing(o.Number, b) })

		u := User{id, rapid.StringN(1, 10, wire.NameBytesMax).Draw(t, "name"), n.Draw(t, "version"),
			rapid.StringN(1, 100, 200).Draw(t, "hash"), wire.Time(n.Draw(t, "created"))}
		again(t, u, appendUser(nil, &u), func(b []byte) (User, error) { return parseUser(id, b) })

		l := List{id, c, n.Draw(t, "version"), n.Draw(t, "changed"), rapid.Bool().Draw(t, "gone")}
		again(t, l, appendList(nil, &l), func(b []byte) (List, error) { return parseList(id, c, b) })

		x := UserIndex{id, c, n.Draw(t, "changed"), wire.Time(n.Draw(t, "time of it")), rapid.Bool().Draw(t, "left")}
		again(t, x, appendUserIndex(nil, &x), func(b []byte) (UserIndex, error) { return parseUserIndex(id, c, b) })

		again(t, id, appendName(nil, id), parseName)
		number := n.Draw(t, "incoming")
		again(t, number, appendIncoming(nil, number), parseIncoming)

		v := genConversation(t)
		again(t, v, appendConversation(nil, &v), parseConversation)

		m := Member{genCursor(t), genCursor(t), genMembership(t), genOwn(t)}
		again(t, m, appendMember(nil, &m), memberOf)

		g := genGroup(t)
		again(t, g, appendGroup(nil, &g), parseGroup)

		for i := range v.Outboxes {
			v.Outboxes[i].Author = id
		}
		again(t, v.Memory, appendOutboxes(nil, &v.Memory), func(b []byte) (m Memory, err error) { return m, parseOutboxes(id, b, &m) })
	})
}

func TestSealParsesToWhatItWasMadeOf(t *testing.T) {
	s := seal{[]sealedShard{{1, 0, 77}, {2, 512, 1 << 40}}}
	b := appendSeal(nil, &s)
	got, err := parseSeal(b)
	if err != nil || differ(s.shards, got.shards) != "" {
		t.Fatalf("%v, %v", got, err)
	}
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 0x10
		if _, err := parseSeal(bad); err == nil {
			t.Fatalf("byte %d may change", i)
		}
		if _, err := parseSeal(b[:i]); err == nil {
			t.Fatalf("%d bytes are enough", i)
		}
	}
}

// FuzzParseRecord gives any bytes to every parser: none panics, and what parses is written
// the same again, so that each value has one form.
func FuzzParseRecord(f *testing.F) {
	f.Add(appendConversation(nil, &Conversation{Head: 3, Revision: 300, Memory: Memory{[]Outbox{{1, 2, 3, 4, 5}}, []uint32{1}}}))
	f.Add(appendOutboxes(nil, &Memory{[]Outbox{{1, 2, 3, 4, 5}}, []uint32{1}}))
	f.Add(appendGroup(nil, &Group{Version: 3, Owner: 9, Creation: Creation{1, 2, 3, 4}, Title: "t", Link: Link{Hash: LinkHash{1}, Left: 4}}))
	f.Add(appendMember(nil, &Member{Membership: Membership{Role: wire.RoleMember, From: 7, Joined: 8, Since: 9}, Own: Own{Flags: 1}}))
	f.Add(appendMember(nil, &Member{Membership: Membership{Role: wire.RoleMember, From: 7, Joined: 8, Since: 9}, Own: Own{1, 2, 3}}))
	f.Add(appendMember(nil, &Member{Own: Own{1, 2, 3}}))
	f.Add(appendMember(nil, &Member{Read: Cursor{5, []Step{{1, 2}, {4, 300}}}}))
	f.Add(appendShardRecord(nil, &shardRecord{Record{1, 2, 3, []byte("x")}, 4, 5}))
	f.Add(appendUser(nil, &User{ID: 1, Name: "ada", Hash: "$"}))
	f.Add(appendOutgoing(nil, &Outgoing{1, 2, []byte("c")}))
	f.Add(appendName(nil, 77))
	f.Add(appendSeal(nil, &seal{[]sealedShard{{1, 2, 3}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(kind string, err error, form []byte) {
			if err == nil && !bytes.Equal(form, b) {
				t.Fatalf("%s: %x is written %x", kind, b, form)
			}
		}
		c, err := parseConversation(b)
		same("conversation", err, appendConversation(nil, &c))
		m, err := memberOf(b)
		same("member", err, appendMember(nil, &m))
		r, err := parseShardRecord(b)
		same("shard", err, appendShardRecord(nil, &r))
		u, err := parseUser(1, b)
		same("user", err, appendUser(nil, &u))
		o, err := parseOutgoing(1, b)
		same("outgoing", err, appendOutgoing(nil, &o))
		id, err := parseName(b)
		same("name", err, appendName(nil, id))
		l, err := parseList(1, wire.Conversation{}, b)
		same("list", err, appendList(nil, &l))
		x, err := parseUserIndex(1, wire.Conversation{}, b)
		same("user index", err, appendUserIndex(nil, &x))
		n, err := parseIncoming(b)
		same("incoming", err, appendIncoming(nil, n))
		g, err := parseGroup(b)
		same("group", err, appendGroup(nil, &g))
		var memory Memory
		err = parseOutboxes(1, b, &memory)
		same("outboxes", err, appendOutboxes(nil, &memory))
		s, err := parseSeal(b)
		same("seal", err, appendSeal(nil, &s))
	})
}

// A row of the user index from before times were kept is still read, and no other form of it.
func TestUserIndexWithoutATimeIsRead(t *testing.T) {
	u, err := parseUserIndex(pair.A, pair, []byte{encodingVersion, 7})
	if err != nil || u != (UserIndex{User: pair.A, Conversation: pair, Changed: 7}) {
		t.Errorf("%+v, %v", u, err)
	}
	for _, b := range [][]byte{{}, {userIndexTimed}, {userIndexTimed, 7}, {userIndexTimed, 7, 0}, {encodingVersion, 7, 9}, {4, 7, 9}} {
		if u, err := parseUserIndex(pair.A, pair, b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%x: %+v, %v", b, u, err)
		}
	}
}
