package sim

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A wire is a connection between two hosts of a network.
type wireTest struct {
	t       *testing.T
	network *Network
	a, b    *Host
	here    net.Conn
	there   net.Conn
}

// connected runs fn in a bubble with a connection from host a to host b.
func connected(t *testing.T, base Path, fn func(w *wireTest)) {
	synctest.Test(t, func(t *testing.T) {
		w := &wireTest{t: t, network: NewNetwork(1, base, WindowBytes)}
		w.a, w.b = w.network.Host("a", nil), w.network.Host("b", nil)
		l, err := w.b.Listen(80)
		if err != nil {
			t.Fatal(err)
		}
		if w.here, err = w.a.Dial(context.Background(), "b:80"); err != nil {
			t.Fatal(err)
		}
		if w.there, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		fn(w)
		w.a.Kill(false)
		w.b.Kill(false)
	})
}

func (w *wireTest) write(c net.Conn, text string) {
	w.t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wireTest) want(c net.Conn, text string) {
	w.t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		w.t.Fatalf("read %q, %v; want %q", b, err, text)
	}
}

// fails waits for a read to fail in a given way.
func (w *wireTest) fails(c net.Conn, want error) {
	w.t.Helper()
	for {
		if _, err := c.Read(make([]byte, 64)); err != nil {
			if !errors.Is(err, want) {
				w.t.Fatalf("read: %v, want %v", err, want)
			}
			return
		}
	}
}

func TestBytesComeWholeAndInOrderWhateverIsLost(t *testing.T) {
	connected(t, Path{Delay: 20 * time.Millisecond, Jitter: 50 * time.Millisecond, LossPercent: 30, BytesPerSecond: 5000}, func(w *wireTest) {
		go func() {
			for i := range 200 {
				w.write(w.here, string(rune('a'+i%26)))
			}
		}()
		for i := range 200 {
			w.want(w.there, string(rune('a'+i%26)))
		}
	})
}

func TestAWindowHoldsUpWhoWritesTooMuch(t *testing.T) {
	connected(t, Path{}, func(w *wireTest) {
		w.here.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := w.here.Write(make([]byte, 3*WindowBytes))
		if n != WindowBytes && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d bytes, %v", n, err)
		}
		w.want(w.there, string(make([]byte, WindowBytes)))
		w.here.SetWriteDeadline(time.Time{})
		w.write(w.here, "more")
		w.want(w.there, "more")
	})
}

func TestACloseComesBehindTheBytes(t *testing.T) {
	connected(t, Path{Delay: time.Millisecond}, func(w *wireTest) {
		w.write(w.here, "last")
		w.here.Close()
		w.want(w.there, "last")
		w.fails(w.there, io.EOF)
		w.fails(w.here, net.ErrClosed)
	})
}

func TestACutHoldsAndAHealBrings(t *testing.T) {
	connected(t, Path{}, func(w *wireTest) {
		w.network.Set("a", "b", Path{Cut: true})
		w.write(w.here, "held")
		w.there.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := w.there.Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("through a cut: %v", err)
		}
		w.there.SetReadDeadline(time.Time{})
		w.write(w.there, "the other way") // is open
		w.want(w.here, "the other way")
		w.network.Set("a", "b", Path{})
		w.want(w.there, "held")
	})
}

func TestALongCutBreaksWhoWaits(t *testing.T) {
	connected(t, Path{}, func(w *wireTest) {
		w.network.Set("a", "b", Path{Cut: true})
		w.write(w.here, "never")
		w.fails(w.here, syscall.ETIMEDOUT)
		w.network.Set("a", "b", Path{})
		w.write(w.there, "hello?") // the other end learns it when it speaks
		w.fails(w.there, syscall.ECONNRESET)
	})
}

func TestTheEndOfAProcessResets(t *testing.T) {
	connected(t, Path{Delay: time.Millisecond}, func(w *wireTest) {
		w.b.Kill(false)
		w.fails(w.here, syscall.ECONNRESET)
		if _, err := w.a.Dial(context.Background(), "b:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("dial: %v", err)
		}
		if _, err := w.b.Dial(context.Background(), "a:80"); !errors.Is(err, errNoHost) {
			t.Fatalf("a dead host dials: %v", err)
		}
	})
}

func TestAMachineWithoutPowerSaysNothing(t *testing.T) {
	connected(t, Path{}, func(w *wireTest) {
		w.b.Kill(true)
		w.here.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := w.here.Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("it said %v", err)
		}
		w.here.SetReadDeadline(time.Time{})
		w.write(w.here, "are you there?")
		time.Sleep(2 * time.Second)
		w.network.Host("b", nil) // it boots, and knows nothing
		w.fails(w.here, syscall.ECONNRESET)
	})
}

func TestOneSeedDrawsOneFate(t *testing.T) {
	trace := func() (times []time.Duration) {
		connected(t, Path{Jitter: time.Second, LossPercent: 50}, func(w *wireTest) {
			begin := time.Now()
			for range 20 {
				w.write(w.here, "x")
				w.want(w.there, "x")
				times = append(times, time.Since(begin))
			}
		})
		return times
	}
	first, second := trace(), trace()
	for i := range first {
		if first[i] != second[i] {
			t.Fatalf("write %d arrived at %v and at %v", i, first[i], second[i])
		}
	}
}
