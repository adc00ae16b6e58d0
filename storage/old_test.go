package storage

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/wire"
)

var update = flag.Bool("update", false, "write the newest of testdata/v* anew: only while it is not released")

// oldVersions are the formats that a directory is kept of. The first has groups as they were
// planned, which no server ever wrote: fsck objects to them and to nothing else.
var oldVersions = []string{"v1", "v1groups", "v1own"}

// TestOldDirectories opens a directory of each format that was ever released, and compares
// all that is in it with what it held when it was made. The data is never made anew after a
// release: that old files can be read is what it proves.
func TestOldDirectories(t *testing.T) {
	if *update {
		makeOld(t, filepath.Join("testdata", oldVersions[len(oldVersions)-1]))
	}
	for _, version := range oldVersions {
		t.Run(version, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(path, os.DirFS(filepath.Join("testdata", version))); err != nil {
				t.Fatal(err)
			}
			d, err := OpenDirectory(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			sum, err := Fsck(t.Context(), d.Path("state"), d.FS(), func(f Finding) {
				if version != "v1" || !strings.Contains(f.Key, "group") {
					t.Errorf("fsck: %v", f)
				}
			})
			if err != nil || sum.Shards != 2 || sum.Messages == 0 {
				t.Errorf("%+v, %v", sum, err)
			}
			got := dump(t, d.Path("state"))
			golden := filepath.Join("testdata", version+".txt")
			if *update && version == oldVersions[len(oldVersions)-1] {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Error(diff)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// makeOld writes a directory with every kind of record, over several ingests.
func makeOld(t *testing.T, path string) {
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDirectory(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := openTest(t, d.FS(), d.Path("state"), 0)
	u := newUniverse(2)
	for i, r := range machineRanges {
		shard, err := s.Shard(uint32(i+1), r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		m := newModel(u, r[0], r[1])
		for seed := range uint64(24) {
			if err := shard.Update(m.step(seed)); err != nil {
				t.Fatal(err)
			}
			if seed%8 == 0 {
				if err := s.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	closeTest(t, s)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// dump prints every record of a state store.
func dump(t *testing.T, path string) string {
	s := openTest(t, nil, path, 0)
	defer closeTest(t, s)
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	var b strings.Builder
	for ok := it.First(); ok; ok = it.Next() {
		p, err := parseKey(it.Key())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%v: %s\n", p, dumpValue(t, p, it.Value()))
	}
	if err := it.Error(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func dumpValue(t *testing.T, p parsedKey, value []byte) string {
	var v any
	var err error
	switch p.Kind {
	case kindShard:
		v, err = parseShardRecord(value)
	case kindUserIndex:
		v, err = parseUserIndex(p.User, p.Conversation, value)
	case kindOutgoing:
		v, err = parseOutgoing(p.Number, value)
	case kindIncoming:
		v, err = parseIncoming(value)
	case kindUser:
		v, err = parseUser(p.User, value)
	case kindName:
		v, err = parseName(value)
	case kindList:
		v, err = parseList(p.User, p.Conversation, value)
	case kindConversation:
		v, err = parseConversation(value)
	case kindMember:
		v, err = memberOf(value)
	case kindGroup:
		v, err = parseGroup(value)
	case kindOutboxes:
		var m Memory
		err = parseOutboxes(p.User, value, &m)
		v = m
	default:
		_, list, chunkErr := parseChunk(p.Conversation, value)
		var b strings.Builder
		for _, m := range list {
			fmt.Fprintf(&b, "\n  %d revision %d time %d author %d previous %d extended %t %d bytes %x",
				m.Sequence, m.Revision, m.Time, m.Author, m.Previous, m.Content.Extended,
				len(m.Content.Bytes), wire.SlotOf(m.Content.Bytes))
		}
		v, err = b.String(), chunkErr
	}
	if err != nil {
		t.Fatalf("%v: %v", p, err)
	}
	return fmt.Sprintf("%+v", asFormatBegan(v))
}

// asFormatBegan shows a record that has nothing of what was added since format 1 began as
// it was shown then.
func asFormatBegan(v any) any {
	switch v := v.(type) {
	case UserIndex:
		if v.Time == 0 && !v.Gone {
			return struct {
				User         wire.ID
				Conversation wire.Conversation
				Changed      uint64
			}{v.User, v.Conversation, v.Changed}
		}
	case List:
		if !v.Gone {
			return struct {
				User             wire.ID
				Conversation     wire.Conversation
				Version, Changed uint64
			}{v.User, v.Conversation, v.Version, v.Changed}
		}
	case Conversation:
		return struct {
			Head, Revision uint64
			Time           wire.Time
			Changed, SentA uint64
			Outboxes       []Outbox
			Evicted        []uint32
		}{v.Head, v.Revision, v.Time, v.Changed, v.SentA, v.Outboxes, v.Evicted}
	case Member:
		if v.Own != (Own{Flags: v.Own.Flags}) {
			break
		}
		if v.Membership == (Membership{}) && v.Own == (Own{}) {
			return struct{ Delivered, Read Cursor }{v.Delivered, v.Read}
		}
		return memberWithFlags(&v)
	}
	return v
}

// memberWithFlags shows a member of a group as it was shown while the flags were all that
// it could have of its own.
func memberWithFlags(m *Member) any {
	type Membership struct {
		Role         wire.Role
		Banned       bool
		From, Joined uint64
		Since        wire.Time
		Settings     uint64
	}
	return struct {
		Delivered, Read Cursor
		Membership      Membership
	}{m.Delivered, m.Read, Membership{m.Role, m.Banned, m.From, m.Joined, m.Since, m.Own.Flags}}
}
