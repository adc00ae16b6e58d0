//go:build linux

package hostile

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"parley/wire"
)

// A small disk is a tmpfs of its own, with a file beside the data that fills it.
type smallDisk struct {
	path string
}

// newSmallDisk mounts a tmpfs, which only root may.
func newSmallDisk(t *testing.T, bytes int) *smallDisk {
	t.Helper()
	heavy(t, 1000)
	d := &smallDisk{path: t.TempDir()}
	err := syscall.Mount("tmpfs", d.path, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, fmt.Sprintf("size=%d,mode=0700", bytes))
	if err != nil {
		t.Skipf("a full disk needs a tmpfs, and this user may not mount one (run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.path, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *smallDisk) data() string   { return filepath.Join(d.path, "data") }
func (d *smallDisk) filler() string { return filepath.Join(d.path, "filler") }

// fill writes until so much is free; 0 is to the last byte.
func (d *smallDisk) fill(t *testing.T, leave int64) {
	t.Helper()
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for d.free(t) > leave {
		if _, err := f.Write(block[:min(int64(len(block)), d.free(t)-leave)]); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func (d *smallDisk) free(t *testing.T) int64 {
	t.Helper()
	var stat syscall.Statfs_t
	if err := syscall.Statfs(d.path, &stat); err != nil {
		t.Fatal(err)
	}
	return int64(stat.Bavail) * stat.Bsize
}

func (d *smallDisk) clear(t *testing.T) {
	t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		t.Fatal(err)
	}
}

// A talk is one direct conversation with what was acknowledged in it.
type talk struct {
	c       *client
	ref     wire.Ref
	counter uint64
	epoch   uint64
	acked   []string
}

// next is the text of a counter: long enough to fill a disk.
func next(counter uint64) string {
	return fmt.Sprint(counter, " ") + strings.Repeat(string(rune('a'+counter%26)), 8<<10)
}

// say sends the next message; a refusal leaves its counter for the next time.
func (k *talk) say() (*wire.Error, error) {
	k.c.SetDeadline(time.Now().Add(patience))
	k.c.text(k.ref, k.counter+1, next(k.counter+1))
	for {
		f, err := k.c.Next()
		if err != nil {
			return nil, err
		}
		switch f.Type {
		case wire.TypeSent:
			s, err := wire.ParseSent(f)
			if err == nil && s.Sequence != k.counter+1 {
				err = fmt.Errorf("counter %d got sequence %d", k.counter+1, s.Sequence)
			}
			k.counter++
			k.acked = append(k.acked, next(k.counter))
			return nil, err
		case wire.TypeError:
			return wire.ParseError(f)
		}
	}
}

// resume opens a session of the same device and outbox on a server that has started again.
func (k *talk) resume(t *testing.T, s *server) {
	t.Helper()
	k.c = s.dial(t)
	k.c.greet(t, &wire.Hello{Version: wire.Version, OutboxEpoch: k.epoch, Credential: s.token(t, "mallory", 7, time.Hour)})
}

// sent says so many, which must be accepted.
func (k *talk) sent(t *testing.T, count int) {
	t.Helper()
	for range count {
		if e, err := k.say(); e != nil || err != nil {
			t.Fatalf("%v, %v", e, err)
		}
	}
}

// refused says more until that is refused: a server looks at its disk now and then.
func (k *talk) refused(t *testing.T) (refusal *wire.Error) {
	t.Helper()
	eventually(t, "a send is refused", func() bool {
		e, err := k.say()
		if err != nil {
			t.Fatal(err)
		}
		refusal = e
		return e != nil
	})
	return refusal
}

// complete wants everything that was acknowledged, once and in order. Unless the session goes on, one
// more may be there: accepted, with an acknowledgement that did not arrive.
func (k *talk) complete(t *testing.T, c *client, extra int) {
	t.Helper()
	texts, err := c.history(k.ref, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) < len(k.acked) || len(texts) > len(k.acked)+extra || !slices.Equal(texts[:len(k.acked)], k.acked) {
		t.Fatalf("%d messages are there, %d were acknowledged", len(texts), len(k.acked))
	}
	for i := len(k.acked); i < len(texts); i++ {
		if texts[i] != next(uint64(i+1)) {
			t.Fatalf("message %d is %.20q", i+1, texts[i])
		}
	}
}

// Less than the reserve is free: sends are refused, reads go on, and when there is room again all of
// it goes on, without a restart.
func TestAFullDiskRefusesSendsAndNothingElse(t *testing.T) {
	const reserve = 16 << 20
	d := newSmallDisk(t, 128<<20)
	s := serve(t, d.data(), "--disk-reserve-bytes", fmt.Sprint(reserve), "--buffer-bytes-max", "1MiB", "--flush-interval", "1s")
	w := s.witness(t)
	s.user(t, "mallory")
	k := &talk{c: s.live(t, "mallory"), ref: wire.DirectRef(s.user(t, "peer"))}
	k.sent(t, 50)
	for round := range 3 {
		w.served(t)
		d.fill(t, reserve/2)
		refusal := k.refused(t)
		if refusal.Code != wire.CodeDiskFull || refusal.RetryAfterMS == 0 || refusal.Correlation != k.counter+1 {
			t.Errorf("refused with %+v", refusal)
		}
		if status, body := s.get(t, "/readyz"); status == http.StatusOK {
			t.Errorf("ready with a full disk: %s", body)
		}
		// Reading and coming back go on, and a session is not closed for what it cannot do.
		k.complete(t, k.c, 0)
		other := s.live(t, "mallory")
		k.complete(t, other, 0)
		other.Close()
		w.stored(t)
		d.clear(t)
		eventually(t, "a send is accepted again", func() bool {
			e, err := k.say()
			if err != nil || e != nil && e.Code != wire.CodeDiskFull {
				t.Fatalf("%v, %v", e, err)
			}
			return e == nil
		})
		k.sent(t, 20)
		w.served(t)
		k.complete(t, k.c, 0)
		if round == 1 { // what was written around a full disk survives the process
			break
		}
	}
	s.kill(t)
	s = serve(t, d.data())
	k.complete(t, s.live(t, "mallory"), 0)
	s.stop(t)
	if code, out := parley(t, "fsck", d.data()); code != 0 {
		t.Errorf("fsck: code %d\n%s", code, out)
	}
}

// Without a disk of its own to fill, a server can still be told to keep more free than there is: the same refusals
// where no tmpfs may be mounted.
func TestAReserveThatIsNotFreeIsAFullDisk(t *testing.T) {
	t.Parallel()
	const tooMuch = 1 << 40 // the most that may be set
	dir := t.TempDir()
	if (&smallDisk{path: dir}).free(t) >= tooMuch {
		t.Skip("more than 1 TiB is free here")
	}
	k := &talk{epoch: 77}
	s := serve(t, dir)
	w := s.witness(t)
	s.user(t, "mallory")
	k.ref = wire.DirectRef(s.user(t, "peer"))
	k.resume(t, s)
	k.sent(t, 20)
	s.stop(t)

	s = serve(t, dir, "--disk-reserve-bytes", strconv.Itoa(tooMuch))
	k.resume(t, s)
	refusal := k.refused(t)
	if refusal.Code != wire.CodeDiskFull || refusal.RetryAfterMS == 0 {
		t.Errorf("refused with %+v", refusal)
	}
	if status, body := s.get(t, "/readyz"); status == http.StatusOK {
		t.Errorf("ready with a full disk: %s", body)
	}
	k.complete(t, k.c, 0)
	w.will = s.live(t, "will")
	w.stored(t)
	s.stop(t)

	s = serve(t, dir)
	k.resume(t, s)
	k.sent(t, 20)
	k.complete(t, k.c, 0)
}

// Messages alone fill the disk down to the reserve, and the flush behind them still fits.
func TestMessagesAloneDoNotFillTheDisk(t *testing.T) {
	d := newSmallDisk(t, 64<<20)
	s := serve(t, d.data(), "--disk-reserve-bytes", "32MiB", "--buffer-bytes-max", "1MiB", "--flush-interval", "1s")
	w := s.witness(t)
	s.user(t, "mallory")
	k := &talk{c: s.live(t, "mallory"), ref: wire.DirectRef(s.user(t, "peer"))}
	var refusal *wire.Error
	for refusal == nil {
		e, err := k.say()
		if err != nil {
			t.Fatalf("after %d messages: %v\n%s", k.counter, err, s.text())
		}
		// Compressed state and a truncated log may never get there: then the disk is not full.
		if refusal = e; k.counter > 12_000 {
			break
		}
	}
	if refusal != nil && refusal.Code != wire.CodeDiskFull {
		t.Errorf("refused with %+v", refusal)
	}
	k.complete(t, k.c, 0)
	w.stored(t)
}

// Something else fills the disk to the last byte while messages come, between two looks at the free
// space. The server refuses, or stops with the code for that; it never acknowledges what it cannot
// keep, and starts again when there is room.
func TestADiskThatFillsAtOnceStopsTheServerWithoutLoss(t *testing.T) {
	d := newSmallDisk(t, 96<<20)
	flags := []string{"--buffer-bytes-max", "1MiB", "--flush-interval", "1s"}
	var k *talk
	stops := 0
	for range 6 {
		s := serve(t, d.data(), flags...)
		if k == nil {
			s.user(t, "mallory")
			k = &talk{ref: wire.DirectRef(s.user(t, "peer")), epoch: 77}
		}
		k.resume(t, s)
		k.complete(t, k.c, 1)
		k.sent(t, 30)
		d.fill(t, 0)
		stopped := k.untilStopped(t, s)
		if stopped {
			stops++
			text := s.text()
			if code := s.wait(t); code != exitFatal || !strings.Contains(text, "parley: stopped") || !strings.Contains(text, "no space left") {
				t.Errorf("code %d: %s", code, text)
			}
			// Without room there is no start either, and that is said.
			again := launch(t, d.data(), nil, flags...)
			if again.address != "" {
				again.kill(t)
			} else if code := again.wait(t); (code != 1 && code != exitFatal) || !strings.Contains(again.text(), "\nparley: ") && !strings.HasPrefix(again.text(), "parley: ") {
				t.Errorf("a start on a full disk: code %d: %s", code, again.text())
			}
		} else {
			s.kill(t)
		}
		d.clear(t)
	}
	t.Logf("the server stopped in %d of 6 rounds, and refused in the others", stops)
	s := serve(t, d.data(), flags...)
	w := s.witness(t)
	k.complete(t, s.live(t, "mallory"), 1)
	w.served(t)
	s.stop(t)
	if code, out := parley(t, "fsck", d.data()); code != 0 {
		t.Errorf("fsck: code %d\n%s", code, out)
	}
}

// untilStopped goes on sending on a full disk until the server stops, or has refused for so long that
// it will not.
func (k *talk) untilStopped(t *testing.T, s *server) bool {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		e, err := k.say()
		switch {
		case err != nil:
			if !gone(err) && !errors.Is(err, io.EOF) {
				t.Fatalf("neither answered nor closed: %v", err)
			}
			s.wait(t)
			return true
		case e != nil && e.Code != wire.CodeDiskFull && e.Code != wire.CodeTimeout:
			t.Fatalf("refused with %v", e)
		case e != nil:
			time.Sleep(20 * time.Millisecond)
		}
	}
	return s.ended()
}
