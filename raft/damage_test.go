package raft

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// writeLog leaves a log of entries in fs, closed cleanly, and returns the entries.
func writeLog(t *testing.T, fs vfs.FS, count int, size func(i int) int) *testMachine {
	t.Helper()
	m, s := &testMachine{}, &testSource{}
	n := openNode(t, fs, "a", nil)
	g := startGroupOf(t, n, 1, m, s, "a")
	for i := range count {
		s.add(padded(i, size(i)))
	}
	g.Kick()
	eventually(t, "all applied", func() bool { return len(m.values()) == count })
	closeNode(t, n)
	return m
}

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, fs vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func cloneFS(t testing.TB, fs vfs.FS) vfs.FS {
	t.Helper()
	c := vfs.NewMem()
	if ok, err := vfs.Clone(fs, c, "log", "log"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	return c
}

// recovered opens a log and returns what a machine gets out of it.
func recovered(fs vfs.FS) ([]string, error) {
	n, err := Open(Options{Path: "log", FS: fs, Server: "a", Logger: testLogger(), Fatal: func(error) {}})
	if err != nil {
		return nil, err
	}
	m := &testMachine{}
	_, err = n.Start(context.Background(), GroupConfig{ID: 1, Machine: m, Source: &testSource{}})
	if e := n.Close(); err == nil {
		err = e
	}
	return m.values(), err
}

func TestFlippedBitsAreRefusedOrHarmless(t *testing.T) {
	for _, c := range []struct {
		name  string
		count int
		size  func(i int) int
	}{
		{"small entries", 300, func(int) int { return 80 }},
		{"large entries", 24, func(i int) int { return 64<<10 - 100*i }},
		{"mixed entries", 200, func(i int) int { return 10 + i*i%7919 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			want := writeLog(t, fs, c.count, c.size).values()
			names, err := fs.List("log")
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			outcomes := make(map[string]int)
			for _, name := range names {
				data := readFile(t, fs, "log/"+name)
				kind := name[strings.LastIndexAny(name, ".-")+1:]
				if len(data) == 0 || strings.HasPrefix(name, "OPTIONS") {
					continue
				}
				used := len(data)
				if kind == "log" { // the zeros that it is filled with hold nothing
					used = len(bytes.TrimRight(data, "\x00"))
				}
				if used == 0 {
					continue
				}
				for i := range rounds(12) {
					bit := r.IntN(used * 8)
					if i%12 == 11 {
						bit = r.IntN(len(data) * 8)
					}
					flipped := append([]byte(nil), data...)
					flipped[bit/8] ^= 1 << (bit % 8)
					clone := cloneFS(t, fs)
					writeFile(t, clone, "log/"+name, flipped)
					got, err := recovered(clone)
					outcome := "harmless"
					switch {
					case err != nil:
						outcome = "refused"
					case fmt.Sprint(got) != fmt.Sprint(want):
						outcome = "LOST"
						t.Errorf("%s: bit %d of %d: %d of %d entries left, and no error", name, bit, len(data)*8, len(got), len(want))
					}
					outcomes[kind+" "+outcome]++
				}
			}
			t.Log(outcomes)
		})
	}
}
