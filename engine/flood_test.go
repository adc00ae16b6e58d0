package engine

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/engine/admin"
	"parley/wire"
	"parley/wire/wiretest"
)

// A session that reads as fast as it can is flooded by a few friends at once.
func TestAFloodOfFriendsDoesNotEndTheSessionOfAQuickReader(t *testing.T) {
	n := start(t, Config{Shards: 8, Loops: 1})
	bob := user(t, n, "bob")
	b, _ := live(t, n, "bob", 1, 200)
	const friends, messages = 6, 24
	body := strings.Repeat("x", 16<<10)
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	for i := range friends {
		name := fmt.Sprint("friend", i)
		user(t, n, name)
		f, _ := live(t, n, name, 1, 300)
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-begin
			for c := uint64(1); c <= messages; c += 6 {
				var frames []byte
				for k := c; k < c+6; k++ {
					frames = wire.AppendSend(frames, &wire.Send{Correlation: k, Ref: wire.DirectRef(bob), Counter: k, Content: wire.Text(body)})
				}
				f.write(wiretest.Message(wiretest.Binary, frames))
			}
		})
		go func() {
			for {
				if _, err := f.Next(); err != nil {
					return
				}
			}
		}()
	}
	ready.Wait()
	close(begin)
	got, heads := 0, 0
	for got < friends*messages {
		f, err := b.Next()
		if err != nil {
			t.Fatalf("bob, who reads all the time, lost the session after %d messages, %d HEADs: %v, close code %d; reactor: %v", got, heads, err, b.Code, n.server.Stats().Closed)
		}
		switch f.Type {
		case wire.TypeMessage:
			got++
		case wire.TypeHead:
			heads++
			if h, _ := wire.ParseHead(f); h.Sequence > 1 {
				return // collapsed, as the protocol says; a HEAD at 1 tells of a new conversation
			}
		case wire.TypeError:
			e, _ := wire.ParseError(f)
			t.Log(e)
		}
	}
	done.Wait()
}

// Cursors while the disk is full: PROTOCOL 8 says ERROR, so that the client sends them again.
func TestACursorOnAFullDiskIsRefused(t *testing.T) {
	n := start(t, Config{})
	ada, bob := user(t, n, "ada"), user(t, n, "bob")
	a, _ := live(t, n, "ada", 1, 100)
	b, _ := live(t, n, "bob", 1, 200)
	a.text(wire.DirectRef(bob), 1, "hello")
	b.until(wire.TypeMessage)
	n.diskFull.Store(true)
	b.cursor(wire.DirectRef(ada), wire.Delivered, 1)
	b.send(wire.AppendPing(nil))
	for {
		f, err := b.Next()
		if err != nil {
			t.Fatal(err)
		}
		if f.Type == wire.TypeError {
			return
		}
		if f.Type == wire.TypePong {
			t.Fatal("the cursor was dropped without a word")
		}
	}
}

// An account takes room on the disk too, and is refused like a send.
func TestAnAccountOnAFullDiskIsRefused(t *testing.T) {
	n := start(t, Config{})
	n.diskFull.Store(true)
	_, err := n.CreateUser(t.Context(), "ada", nil)
	var refusal *wire.Error
	if !errors.Is(err, admin.ErrUnavailable) || !errors.As(err, &refusal) || refusal.Code != wire.CodeDiskFull {
		t.Fatalf("%v, want DISK_FULL", err)
	}
	n.diskFull.Store(false)
	user(t, n, "ada")
}

// The kernel drains before the reactor looks again: what is pushed meanwhile waits its turn.
func TestAPushDoesNotOvertakeTheBacklog(t *testing.T) {
	n := start(t, Config{Loops: 1})
	_, bob := user(t, n, "ada"), user(t, n, "bob")
	a, _ := live(t, n, "ada", 1, 100)
	b, _ := live(t, n, "bob", 1, 200)
	counter := uint64(0)
	send := func(text string) { counter++; a.text(wire.DirectRef(bob), counter, text); a.until(wire.TypeSent) }
	b.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	for range 3 {
		for n.server.Stats().Blocked == 0 {
			send(strings.Repeat("x", 16<<10))
		}
		time.Sleep(500 * time.Millisecond) // the pause between looks grows to 160 ms
	}
	for range 5 {
		send("backlog")
	}
	first := counter - 4
	// Bob reads all there is at once; what the kernel did not take leaves, but the backlog waits to be looked at.
	go func() {
		for range 10 {
			send("overtakes")
			time.Sleep(2 * time.Millisecond)
		}
	}()
	last, top := uint64(0), uint64(0)
	for top < first+4+10 {
		f, err := b.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch f.Type {
		case wire.TypeMessage:
			m, _ := wire.ParseMessage(f)
			if m.Sequence != last+1 {
				t.Fatalf("message %d came after %d", m.Sequence, last)
			}
			last, top = m.Sequence, m.Sequence
		case wire.TypeHead: // the backlog has become one: it may stand for what follows, too
			h, _ := wire.ParseHead(f)
			last, top = max(last, h.Sequence), max(top, h.Sequence)
		}
	}
}
