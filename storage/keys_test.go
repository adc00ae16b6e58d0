package storage

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"parley/wire"
)

// someKeys is a key of every kind, at random places.
func someKeys(r *rand.Rand) [][]byte {
	user := wire.MakeID(wire.Slot(r.IntN(wire.Slots)), 1+r.Uint64())
	peer := wire.MakeID(wire.Slot(r.IntN(wire.Slots)), 1+r.Uint64())
	first := wire.Slot(r.IntN(wire.Slots))
	keys := [][]byte{
		appendShardKey(nil, first),
		appendOutgoingKey(nil, first, r.Uint64()),
		appendIncomingKey(nil, first, r.Uint32()),
		appendUserKey(nil, user),
		appendNameKey(nil, strconv.FormatUint(r.Uint64(), 36)),
		appendNameKey(nil, "a name that is so long that its key has more than 24 bytes "+strconv.Itoa(r.IntN(99))),
	}
	g := wire.Conversation{Kind: wire.Group, A: user}
	keys = append(keys, appendGroupKey(nil, g.Slot(), g), appendOutboxesKey(nil, g.Slot(), g, peer))
	for _, c := range []wire.Conversation{wire.DirectConversation(user, peer), {Kind: wire.Group, A: peer}} {
		keys = append(keys,
			appendUserIndexKey(nil, first, user, c),
			appendListKey(nil, user, c),
			appendConversationKey(nil, c.Slot(), c),
			appendMemberKey(nil, c.Slot(), c, user),
			appendSequence(appendChunkPrefix(nil, c.Slot(), c), 1+r.Uint64N(1000)))
	}
	return keys
}

// appendParsed builds a key from its parts again.
func appendParsed(p parsedKey) []byte {
	switch p.Kind {
	case kindShard:
		return appendShardKey(nil, p.Slot)
	case kindUserIndex:
		return appendUserIndexKey(nil, p.Slot, p.User, p.Conversation)
	case kindOutgoing:
		return appendOutgoingKey(nil, p.Slot, p.Number)
	case kindIncoming:
		return appendIncomingKey(nil, p.Slot, p.From)
	case kindUser:
		return appendUserKey(nil, p.User)
	case kindName:
		return appendNameKey(nil, p.Name)
	case kindList:
		return appendListKey(nil, p.User, p.Conversation)
	case kindConversation:
		return appendConversationKey(nil, p.Slot, p.Conversation)
	case kindMember:
		return appendMemberKey(nil, p.Slot, p.Conversation, p.User)
	case kindGroup:
		return appendGroupKey(nil, p.Slot, p.Conversation)
	case kindOutboxes:
		return appendOutboxesKey(nil, p.Slot, p.Conversation, p.User)
	default:
		return appendSequence(appendChunkPrefix(nil, p.Slot, p.Conversation), p.Number)
	}
}

func TestKeysParseToWhatTheyWereBuiltFrom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		for _, key := range someKeys(r) {
			p, err := parseKey(key)
			if err != nil {
				t.Fatalf("%x: %v", key, err)
			}
			if again := appendParsed(p); !bytes.Equal(again, key) {
				t.Fatalf("%v: %x became %x", p, key, again)
			}
		}
	}
}

func TestPackedKeysCompareAsKeysDo(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var keys [][]byte
	for range 100 {
		keys = append(keys, someKeys(r)...)
	}
	for range 20_000 {
		x, y := keys[r.IntN(len(keys))], keys[r.IntN(len(keys))]
		if r.IntN(3) == 0 { // alike in a prefix
			y = append(slices.Clone(x[:len(x)-1]), x[len(x)-1]^byte(1+r.IntN(255)))
		}
		got := packKey(x).compare(packKey(y))
		if len(x) > packedSize && len(y) > packedSize && got == 0 {
			continue // names: the buffer compares the rest
		}
		if want := bytes.Compare(x, y); got != want {
			t.Fatalf("%x and %x: %d, want %d", x, y, got, want)
		}
		if len(x) <= packedSize && !bytes.Equal(packKey(x).appendTo(nil, len(x)), x) {
			t.Fatalf("%x does not unpack", x)
		}
	}
}

func TestPackedChunkPrefix(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		a, b := wire.MakeID(wire.Slot(r.IntN(wire.Slots)), r.Uint64()), wire.MakeID(wire.Slot(r.IntN(wire.Slots)), r.Uint64())
		for _, c := range []wire.Conversation{wire.DirectConversation(a, b), {Kind: wire.Group, A: a}} {
			key := appendChunkPrefix(nil, c.Slot(), c)
			if got, want := packChunkPrefix(c.Slot(), c), packKey(key); got != want {
				t.Fatalf("%v: %x, want %x", c, got, want)
			}
			b := &buffer{}
			b.logs.insert(packKey(key))
			if got := b.logKeySize(0); got != len(key) {
				t.Fatalf("%v: prefix of %d bytes, want %d", c, got, len(key))
			}
		}
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	user, peer := wire.MakeID(5, 1), wire.MakeID(6, 1)
	c := wire.DirectConversation(user, peer)
	elsewhere := appendConversationKey(nil, c.Slot()+1, c)
	if c.Slot() == wire.Slots-1 {
		elsewhere = appendConversationKey(nil, 0, c)
	}
	for name, key := range map[string][]byte{
		"empty":             nil,
		"no kind":           {0, 1},
		"unknown kind":      {0, 1, 0x77},
		"slot too high":     {0x10, 0, byte(kindShard)},
		"at another slot":   elsewhere,
		"user elsewhere":    appendPrefix(nil, 4, kindUser),
		"group of two":      appendGroupKey(nil, c.Slot(), c),
		"trailing byte":     append(appendUserKey(nil, user), 0),
		"members backwards": appendPrefix(nil, c.Slot(), kindConversation),
		"empty name":        appendPrefix(nil, nameSlot(""), kindName),
		"name too long":     appendNameKey(nil, string(make([]byte, wire.NameBytesMax+1))),
	} {
		if p, err := parseKey(key); err == nil {
			t.Errorf("%s: %x parsed as %v", name, key, p)
		}
	}
}

// TestKeysDocument compares the kinds that KEYS.md lists with the constants.
func TestKeysDocument(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "kind" {
			value, err := strconv.ParseUint(spec.Values[0].(*ast.BasicLit).Value, 0, 8)
			if err != nil {
				t.Fatal(err)
			}
			want[spec.Values[0].(*ast.BasicLit).Value] = kind(value).String()
			if _, ok := kindNames[kind(value)]; !ok {
				t.Errorf("%s has no name", spec.Names[0].Name)
			}
		}
		return true
	})
	document, err := os.ReadFile("KEYS.md")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^### `(0x[0-9a-f]{2})` ([a-z ]+)$").FindAllStringSubmatch(string(document), -1) {
		got[m[1]] = m[2]
	}
	if len(want) == 0 || len(got) != len(want) || len(want) != len(kindNames) {
		t.Fatalf("KEYS.md lists %d kinds, the code has %d, with %d names", len(got), len(want), len(kindNames))
	}
	for value, name := range want {
		if got[value] != name {
			t.Errorf("KEYS.md says %q for %s, want %q", got[value], value, name)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, key := range someKeys(rand.New(rand.NewPCG(1, 1))) {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		p, err := parseKey(key)
		if err == nil && !bytes.Equal(appendParsed(p), key) {
			t.Fatalf("%x parsed as %v, which is %x", key, p, appendParsed(p))
		}
	})
}
