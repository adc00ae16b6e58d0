package engine

import (
	"errors"
	"maps"
	"testing"

	"parley/wire"

	"pgregory.net/rapid"
)

var tokenGen = rapid.Custom(func(t *rapid.T) syncToken {
	token := syncToken{cluster: rapid.Uint64Range(1, 1<<48-1).Draw(t, "cluster"), marks: map[int]mark{}}
	for range rapid.IntRange(0, 10).Draw(t, "shards") {
		since := rapid.Uint64Range(0, 1<<50).Draw(t, "since")
		token.marks[rapid.IntRange(0, 255).Draw(t, "shard")] = mark{since, since + rapid.Uint64Range(0, 1<<40).Draw(t, "more")}
	}
	token.paging = rapid.Bool().Draw(t, "paging")
	for shard, m := range token.marks {
		if !token.paging {
			token.marks[shard] = mark{m.since, m.since}
		}
	}
	if token.paging {
		token.bound = place{wire.Time(rapid.Uint64Range(0, 1<<45).Draw(t, "time")), wire.Ref(rapid.Uint64Range(1, 1<<49).Draw(t, "ref"))}
	}
	return token
})

func TestSyncTokenRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := tokenGen.Draw(t, "token")
		b := want.append(nil)
		got, err := parseSyncToken(b, want.cluster, 256)
		if err != nil {
			t.Fatal(err)
		}
		if got.paging != want.paging || got.bound != want.bound || !maps.Equal(got.marks, want.marks) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if _, err := parseSyncToken(b, want.cluster^1, 256); !errors.Is(err, errTokenTooOld) {
			t.Fatalf("another cluster's token: %v", err)
		}
		for n := range len(b) {
			if _, err := parseSyncToken(b[:n], want.cluster, 256); err == nil {
				t.Fatalf("%d of %d bytes were taken for a token", n, len(b))
			}
		}
	})
}

// A token comes from a client: what it says of shards that there are not, or of indexes
// beyond any, is not looked up.
func TestSyncTokenOfAnotherShapeIsTooOld(t *testing.T) {
	for name, token := range map[string]syncToken{
		"a shard too many":  {cluster: 7, marks: map[int]mark{8: {1, 1}}},
		"an index too high": {cluster: 7, marks: map[int]mark{3: {wire.NumberMax, wire.NumberMax + 1}}, paging: true},
	} {
		if _, err := parseSyncToken(token.append(nil), 7, 8); !errors.Is(err, errTokenTooOld) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The token of a user in all shards, between two pages, fits its limit.
func TestLargestSyncTokenIsWithinItsLimit(t *testing.T) {
	token := syncToken{cluster: 1<<48 - 1, marks: map[int]mark{}, paging: true, bound: place{1<<53 - 1, 1<<49 - 1}}
	for shard := range 256 {
		token.marks[shard] = mark{1 << 41, 1<<41 + 1<<34} // two billion entries a day for three years
	}
	if n := len(token.append(nil)); n > syncTokenBytesMax {
		t.Fatalf("%d bytes", n)
	}
	if syncTokenBytesMax > wire.SyncTokenBytesMax {
		t.Fatal("a token that no client may send back")
	}
}

func FuzzParseSyncToken(f *testing.F) {
	f.Add((&syncToken{cluster: 7, marks: map[int]mark{3: {1, 2}}}).append(nil))
	f.Add((&syncToken{cluster: 7, marks: map[int]mark{}, paging: true, bound: place{1, 2}}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		token, err := parseSyncToken(b, 7, 256)
		if err != nil {
			return
		}
		if _, err := parseSyncToken(token.append(nil), 7, 256); err != nil {
			t.Fatalf("%x: %v", b, err)
		}
	})
}
