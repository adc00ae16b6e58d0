//go:build unix

package client

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"parley/wire"
)

// killedPath names the file for the process that the next test kills.
const killedPath = "PARLEY_TEST_KILLED_OUTBOX"

// A process is killed while it writes: all that it was told is stored is there, in order,
// and what it had removed before does not come back beside it.
func TestFileOutboxOutlivesSIGKILL(t *testing.T) {
	if path := os.Getenv(killedPath); path != "" {
		writeForEver(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "outbox")
	stored := 0
	for range 10 {
		command := exec.Command(os.Args[0], "-test.run=^TestFileOutboxOutlivesSIGKILL$")
		command.Env = append(os.Environ(), killedPath+"="+path)
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 25 && lines.Scan(); n++ {
			stored = atoi(t, lines.Text())
		}
		command.Process.Kill()
		for lines.Scan() { // what it had said before it died
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				stored = n
			}
		}
		command.Wait()

		s := mustOpen(t, path)
		state := load(t, s)
		s.Close()
		last := int(state.Counters[toBob])
		if last < stored || last > stored+1 {
			t.Fatalf("the last counter is %d, the process was told %d", last, stored)
		}
		for i, entry := range state.Entries {
			if want := last - len(state.Entries) + 1 + i; entry.Counter != uint64(want) || string(entry.Content.Bytes) != fmt.Sprint(want) {
				t.Fatalf("entry %d is %+v, want %d", i, entry, want)
			}
		}
		if len(state.Entries) > 4 {
			t.Fatalf("%d entries, want the last three or four", len(state.Entries))
		}
	}
}

func atoi(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// writeForEver adds sends, says when each is stored, and keeps the last three.
func writeForEver(t *testing.T, path string) {
	s := mustOpen(t, path)
	s.(*fileOutbox).rewriteBytes = 512
	state := load(t, s)
	if state.Epoch == 0 {
		if err := s.Write([]OutboxChange{{Kind: OutboxRenew, Key: Key{Epoch: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, entry := range state.Entries { // the last process may have died before this
		if last := state.Counters[toBob]; entry.Counter+2 < last {
			if err := s.Write([]OutboxChange{{Kind: OutboxRemove, Key: entry.Key}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for counter := state.Counters[toBob] + 1; ; counter++ {
		entry := OutboxEntry{Key: Key{1, toBob, counter}, Content: wire.Text(fmt.Sprint(counter))}
		if err := s.Write([]OutboxChange{{Kind: OutboxAdd, Entry: entry}}); err != nil {
			t.Fatal(err)
		}
		fmt.Println(counter)
		if counter > 3 {
			if err := s.Write([]OutboxChange{{Kind: OutboxRemove, Key: Key{1, toBob, counter - 3}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
