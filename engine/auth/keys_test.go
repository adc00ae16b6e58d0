package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// keysJSON makes the content of a key file whose signing key has the given id.
func keysJSON(t testing.TB, id string) keysFile {
	t.Helper()
	file, err := newKeysFile()
	if err != nil {
		t.Fatal(err)
	}
	file.Signing[0].ID = id
	return file
}

// encode writes a key file as it is, with its checksum.
func encode(t testing.TB, file keysFile) []byte {
	t.Helper()
	sum, err := file.checksum()
	if err != nil {
		t.Fatal(err)
	}
	file.Checksum = sum
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustParseKeys(t testing.TB, file keysFile) *Keys {
	t.Helper()
	k, err := parseKeys(encode(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysAreMadeOnceAndForTheirOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	k, err := LoadOrCreateKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := LoadOrCreateKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.VerifyToken(signed(t, k, time.Hour), at(0)); err != nil {
		t.Errorf("after loading again: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestKeysMadeByManyAtOnceAreTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			k, err := LoadOrCreateKeys(path)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = k.signerID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("different keys: %q", ids)
		}
	}
}

func TestKeysThatOthersCanReadAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if _, err := LoadOrCreateKeys(path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateKeys(path); !errors.Is(err, ErrKeysPublic) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestDamagedKeysAreRefusedAndKept(t *testing.T) {
	edit := func(change func(*keysFile)) []byte {
		file := keysJSON(t, "a")
		change(&file)
		return encode(t, file)
	}
	good := edit(func(*keysFile) {})
	for name, c := range map[string]struct {
		content []byte
		want    error
	}{
		"empty":                {nil, ErrKeysDamaged},
		"cut":                  {good[:len(good)-2], ErrKeysDamaged},
		"zeros":                {make([]byte, 4096), ErrKeysDamaged},
		"too long":             {append(bytes.Repeat([]byte{' '}, keysFileBytesMax), good...), ErrKeysDamaged},
		"newer":                {edit(func(f *keysFile) { f.Version = 2 }), ErrKeysNewer},
		"version 0":            {edit(func(f *keysFile) { f.Version = 0 }), ErrKeysDamaged},
		"no signing key":       {edit(func(f *keysFile) { f.Signing = nil }), ErrKeysDamaged},
		"no ticket key":        {edit(func(f *keysFile) { f.Ticket = nil }), ErrKeysDamaged},
		"short seed":           {edit(func(f *keysFile) { f.Signing[0].Seed = []byte("short") }), ErrKeysDamaged},
		"short ticket key":     {edit(func(f *keysFile) { f.Ticket[0].Key = []byte("short") }), ErrKeysDamaged},
		"no key id":            {edit(func(f *keysFile) { f.Signing[0].ID = "" }), ErrKeysDamaged},
		"two keys of an id":    {edit(func(f *keysFile) { f.Signing = append(f.Signing, f.Signing[0]) }), ErrKeysDamaged},
		"two keys of a number": {edit(func(f *keysFile) { f.Ticket = append(f.Ticket, f.Ticket[0]) }), ErrKeysDamaged},
		"seed not base64":      {[]byte(strings.Replace(string(good), `"seed":"`, `"seed":"!`, 1)), ErrKeysDamaged},
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateKeys(path); !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, c.content) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := parseKeys(good); err != nil {
		t.Errorf("good keys: %v", err)
	}
}

func TestEveryFlippedBitOfTheKeysIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if _, err := LoadOrCreateKeys(path); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	use := func(k *Keys) string {
		return string(signed(t, k, time.Hour)) + string(k.AppendTicket(nil, Identity{User: user, Device: device}, 1))
	}
	want := use(mustParse(t, good))
	eachDamage(good, func(what string, i int, b []byte) {
		// White space, and bits of base64 that say nothing, are no part of the keys.
		if k, err := parseKeys(b); err == nil && use(k) != want {
			t.Fatalf("%s %d: other keys:\n%s", what, i, b)
		}
	})
}

func mustParse(t testing.TB, b []byte) *Keys {
	t.Helper()
	k, err := parseKeys(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysThatCannotBeWrittenAreAnError(t *testing.T) {
	if _, err := LoadOrCreateKeys(filepath.Join(t.TempDir(), "none", "keys.json")); err == nil {
		t.Error("keys in a directory that does not exist")
	}
}
