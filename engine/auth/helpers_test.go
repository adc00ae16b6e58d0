package auth

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"parley/wire"
)

const (
	user   = wire.ID(0x123456789abc)
	device = wire.ID(77)
)

// start is a whole second, because times in tokens are.
var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) wire.Time { return wire.TimeOf(start.Add(d)) }

func newKeys(t testing.TB) *Keys {
	t.Helper()
	k, err := LoadOrCreateKeys(filepath.Join(t.TempDir(), "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fixedKeys are keys that are the same in every run, for fuzz corpora.
func fixedKeys(t testing.TB) *Keys {
	t.Helper()
	return mustParseKeys(t, keysFile{
		Version: keysVersion,
		Signing: []signingKey{{ID: "a", Seed: make([]byte, seedBytes)}},
		Ticket:  []ticketKey{{Number: 1, Key: bytes.Repeat([]byte{1}, ticketKeyBytes)}},
	})
}

func signed(t testing.TB, k *Keys, lifetime time.Duration) []byte {
	t.Helper()
	token, err := k.signTokenAt(user, device, start, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(token)
}

// eachDamage calls fn with every cut and every single flipped bit of a credential.
func eachDamage(b []byte, fn func(what string, position int, damaged []byte)) {
	for i := range b {
		fn("cut at byte", i, b[:i:i])
	}
	for i := range 8 * len(b) {
		flipped := bytes.Clone(b)
		flipped[i/8] ^= 1 << (i % 8)
		fn("flipped at bit", i, flipped)
	}
}
