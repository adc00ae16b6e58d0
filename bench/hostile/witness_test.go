//go:build linux

package hostile

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"parley/wire"
)

// A witness is two well-behaved clients, wanda and will, who show that a server serves.
type witness struct {
	wanda, will *client
	sent        uint64
}

func (s *server) witness(t testing.TB) *witness {
	t.Helper()
	s.user(t, "wanda")
	s.user(t, "will")
	w := &witness{wanda: s.live(t, "wanda"), will: s.live(t, "will")}
	w.served(t)
	return w
}

// exchange has wanda say the next number: she is told that it is stored, and will hears it.
func (w *witness) exchange() error {
	end := time.Now().Add(patience)
	w.wanda.SetDeadline(end)
	w.will.SetDeadline(end)
	next := w.sent + 1
	w.wanda.text(wire.DirectRef(w.will.user), next, strconv.FormatUint(next, 10))
	s, err := w.wanda.sent()
	if err != nil || s.Sequence != next {
		return fmt.Errorf("the witness's message %d: %+v, %w", next, s, err)
	}
	w.sent = next
	for heard := uint64(0); heard < next; {
		f, err := w.will.await(wire.TypeMessage)
		if err != nil {
			return fmt.Errorf("the witness's message %d was not delivered: %w", next, err)
		}
		m, err := wire.ParseMessage(f)
		if err != nil || m.Sequence > next || string(m.Content.Bytes) != strconv.FormatUint(m.Sequence, 10) {
			return fmt.Errorf("the witness heard %+v, %w", m, err)
		}
		heard = m.Sequence
	}
	w.will.send(wire.AppendCursor(nil, &wire.Cursor{Ref: wire.DirectRef(w.wanda.user), Position: next}))
	return nil
}

// served proves that the witness is served now.
func (w *witness) served(t testing.TB) {
	t.Helper()
	if err := w.exchange(); err != nil {
		t.Fatal(err)
	}
}

// during proves that the witness is served all the time that fn takes, and afterwards, and that all
// of it is stored.
func (w *witness) during(t testing.TB, fn func()) {
	t.Helper()
	w.served(t)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			if err := w.exchange(); err != nil {
				done <- err
				return
			}
			select {
			case <-stop:
				done <- nil
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	finish := sync.OnceFunc(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	defer finish() // when fn ends the test
	fn()
	finish()
	w.served(t)
	w.stored(t)
}

// stored reads everything back.
func (w *witness) stored(t testing.TB) {
	t.Helper()
	texts, err := w.will.history(wire.DirectRef(w.wanda.user), 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) != int(w.sent) {
		t.Fatalf("the witness has %d messages, want %d", len(texts), w.sent)
	}
	for i, text := range texts {
		if text != strconv.Itoa(i+1) {
			t.Fatalf("the witness's message %d is %q", i+1, text)
		}
	}
}
