package storage

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"parley/wire"
)

func openShard(t testing.TB, s *Store) *Shard {
	t.Helper()
	shard, err := s.Shard(1, 0, wire.Slots-1)
	if err != nil {
		t.Fatal(err)
	}
	return shard
}

func closeTest(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// setApplied is the smallest update.
func setApplied(index uint64) func(w *Writer) error {
	return func(w *Writer) error { w.SetApplied(index, 1); return nil }
}

func TestPebbleFormatIsPinned(t *testing.T) {
	for _, format := range []pebble.FormatMajorVersion{pebbleFormat, pebble.FormatNewest} {
		if format != 24 {
			t.Errorf("format %d: a new Format of Parley, and KEYS.md, must say so", format)
		}
	}
	s := openTest(t, vfs.NewMem(), testPath, 0)
	defer closeTest(t, s)
	if got := s.db.FormatMajorVersion(); got != pebbleFormat {
		t.Errorf("a fresh store has format %d", got)
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := openTest(t, vfs.NewMem(), testPath, 0)
	shard := openShard(t, s)
	if err := shard.Update(setApplied(1)); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s)
	closeTest(t, s) // twice is harmless
	for name, err := range map[string]error{
		"update": shard.Update(setApplied(2)),
		"view":   shard.View(func(*Reader) error { return nil }),
		"flush":  s.Flush(t.Context()),
		"wait":   shard.WaitIngested(t.Context(), 9),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
	if shard.Record().Index != 1 {
		t.Errorf("closing did not flush: %+v", shard.Record())
	}
}

func TestShardsMayNotOverlap(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, fs, testPath, 0)
	shard, err := s.Shard(7, 100, 199)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string][3]int{
		"same":      {8, 100, 199},
		"inside":    {8, 150, 160},
		"over":      {8, 0, 4095},
		"touching":  {8, 199, 300},
		"same id":   {7, 300, 400},
		"backward":  {8, 20, 10},
		"too large": {8, 4000, 4096},
	} {
		if _, err := s.Shard(uint32(r[0]), wire.Slot(r[1]), wire.Slot(r[2])); !errors.Is(err, ErrShardRange) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := shard.Update(setApplied(1)); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s)
	s = openTest(t, fs, testPath, 0)
	defer closeTest(t, s)
	if _, err := s.Shard(7, 100, 200); !errors.Is(err, ErrShardRange) {
		t.Errorf("another range than stored: %v", err)
	}
}

func TestUpdatesThatBreakTheShardFailIt(t *testing.T) {
	message := func(sequence uint64) *Message {
		return &Message{Sequence: sequence, Revision: sequence, Author: pair.A}
	}
	c := pair
	broken := errors.New("broken")
	for name, update := range map[string]func(w *Writer) error{
		"another shard's user": func(w *Writer) error { w.PutUser(&User{ID: wire.MakeID(4000, 1)}); return nil },
		"index backward":       func(w *Writer) error { w.SetApplied(1, 1); return nil },
		"stranger writes":      func(w *Writer) error { m := message(1); m.Author = 99; w.AppendMessage(c, 0, m); return nil },
		"gap": func(w *Writer) error {
			w.AppendMessage(c, 0, message(1))
			w.AppendMessage(c, 1, message(3))
			return nil
		},
		"revision below sequence": func(w *Writer) error {
			m := message(2)
			m.Revision = 1
			w.AppendMessage(c, 0, m)
			return nil
		},
		"content too large": func(w *Writer) error {
			m := message(1)
			m.Content.Bytes = make([]byte, wire.ContentBytesMax+1)
			w.AppendMessage(c, 0, m)
			return nil
		},
		"error of the caller": func(w *Writer) error { return broken },
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := openTest(t, fs, testPath, 0)
			shard, err := s.Shard(1, 0, 3999)
			if err != nil {
				t.Fatal(err)
			}
			if err := shard.Update(setApplied(5)); err != nil {
				t.Fatal(err)
			}
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			half := func(w *Writer) error {
				if !strings.HasPrefix(name, "index") {
					w.SetApplied(6, 1)
				}
				return update(w)
			}
			if err := shard.Update(half); !errors.Is(err, ErrMisuse) && !errors.Is(err, broken) {
				t.Fatalf("%v", err)
			}
			if err := shard.Update(setApplied(7)); !errors.Is(err, ErrTorn) {
				t.Errorf("the next update: %v", err)
			}
			if err := shard.View(func(*Reader) error { return nil }); !errors.Is(err, ErrTorn) {
				t.Errorf("a view: %v", err)
			}
			closeTest(t, s)
			s = openTest(t, fs, testPath, 0)
			defer closeTest(t, s)
			if shard, err = s.Shard(1, 0, 3999); err != nil || shard.Record().Index != 5 {
				t.Errorf("half an update was ingested: %+v, %v", shard.Record(), err)
			}
		})
	}
}

func TestPanicInUpdateFailsTheShard(t *testing.T) {
	s := openTest(t, vfs.NewMem(), testPath, 0)
	defer closeTest(t, s)
	shard := openShard(t, s)
	func() {
		defer func() { _ = recover() }()
		_ = shard.Update(func(w *Writer) error { w.SetApplied(3, 1); panic("bug") })
	}()
	if err := shard.Update(setApplied(4)); !errors.Is(err, ErrTorn) {
		t.Errorf("%v, want ErrTorn", err)
	}
}

// TestWaitIngested has an interval that never comes: waiting itself must ask for the flush.
func TestWaitIngested(t *testing.T) {
	s, err := Open(Options{Path: testPath, FS: vfs.NewMem(), Logger: quiet(), FlushInterval: 1000 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTest(t, s)
	shard := openShard(t, s)
	if err := shard.Update(setApplied(5)); err != nil {
		t.Fatal(err)
	}
	if err := shard.WaitIngested(t.Context(), 5); err != nil || shard.Record().Index != 5 {
		t.Fatalf("%+v, %v", shard.Record(), err)
	}
	done := make(chan error, 1)
	go func() { done <- shard.WaitIngested(t.Context(), 7) }()
	for shard.wanted.Load() != 7 { // until it waits for what is not applied yet
		time.Sleep(time.Millisecond)
	}
	for index := range uint64(3) {
		if err := shard.Update(setApplied(5 + index)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil || shard.Record().Index != 7 {
		t.Fatalf("%+v, %v", shard.Record(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := shard.WaitIngested(ctx, 99); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestFlushInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openTest(t, vfs.NewMem(), testPath, 0)
		defer closeTest(t, s)
		shard := openShard(t, s)
		if err := shard.Update(setApplied(1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(FlushIntervalDefault - time.Second)
		if shard.Record().Index != 0 {
			t.Error("flushed before the interval")
		}
		time.Sleep(2 * time.Second)
		if shard.Record().Index != 1 {
			t.Error("not flushed after the interval")
		}
	})
}

// TestUpdatesWaitForTheFlush holds the flush back, as a slow disk does: buffers must not
// grow beyond three times their limit, and everything goes on once it moves.
func TestUpdatesWaitForTheFlush(t *testing.T) {
	const limit = 1 << 20
	fs := vfs.NewMem()
	s := openTest(t, fs, testPath, limit)
	shard := openShard(t, s)
	s.exclusive <- struct{}{}
	var updates atomic.Int64
	stop := make(chan struct{})
	var worker sync.WaitGroup
	worker.Go(func() {
		m := newModel(newUniverse(1), 0, wire.Slots-1)
		for seed := uint64(0); ; seed++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := shard.Update(m.step(seed)); err != nil {
				t.Error(err)
				return
			}
			updates.Add(1)
		}
	})
	for len(s.permits) < FrozenMax || !s.full() {
		time.Sleep(time.Millisecond)
	}
	m := s.Metrics()
	// An update may overshoot by what it writes itself.
	if m.ActiveBytes+m.FrozenBytes > 4*limit || len(s.permits) != FrozenMax || m.FrozenBytes == 0 {
		t.Errorf("%d bytes active, %d frozen, %d generations", m.ActiveBytes, m.FrozenBytes, len(s.permits))
	}
	for s.counters.waits.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	before := updates.Load()
	<-s.exclusive
	for updates.Load() < before+2 {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	worker.Wait()
	closeTest(t, s)
	fsckTest(t, fs, testPath)
}

// TestViewsDuringUpdatesAndFlushes is for the race detector; each view must see one moment.
func TestViewsDuringUpdatesAndFlushes(t *testing.T) {
	s := openTest(t, vfs.NewMem(), testPath, 32<<10)
	shard := openShard(t, s)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := shard.View(oneMoment); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var v Conversation
	for i := range uint64(400) {
		err := shard.Update(func(w *Writer) error {
			for range 1 + i%7 {
				v.Head++
				w.AppendMessage(pair, v.SentA, &Message{Sequence: v.Head, Revision: v.Head, Time: wire.Time(i), Author: pair.A,
					Content: wire.Content{Bytes: make([]byte, 64)}})
				v.SentA++
			}
			v.Revision, v.Changed = v.Head, i+1
			w.PutConversation(pair, &v)
			w.PutUserIndex(&UserIndex{User: pair.A, Conversation: pair, Changed: i + 1})
			w.SetApplied(i+1, 1)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if i%40 == 0 {
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(done)
	readers.Wait()
	closeTest(t, s)
}

// oneMoment fails if head, messages, index and applied record are not of the same update.
func oneMoment(r *Reader) error {
	v, ok, err := r.Conversation(pair)
	if err != nil || !ok {
		return err
	}
	if v.Changed != r.Applied().Index {
		return errors.New("the conversation is not of the applied record")
	}
	err = r.UserIndex(pair.A, 0, func(u UserIndex) error {
		if u.Changed != v.Changed {
			return errors.New("the index is not of the conversation's update")
		}
		return nil
	})
	if err != nil {
		return err
	}
	last := uint64(0)
	count := func(m Message) (bool, error) { last = max(last, m.Sequence); return true, nil }
	if err := r.MessagesBackward(pair, v.Head-min(v.Head, 60), 1<<40, count); err != nil {
		return err
	}
	if last != v.Head {
		return errors.New("messages do not end at the head")
	}
	sent, err := r.SentBefore(pair, v.Head)
	if err == nil && sent != v.SentA {
		err = errors.New("sent by A does not agree")
	}
	return err
}

// TestFailedWritesStopTheStore fails each kind of write once: Fatal must hear of it, nothing
// is durable after, and what was durable is there again on whole files.
func TestFailedWritesStopTheStore(t *testing.T) {
	for name, match := range map[string]func(op errorfs.Op) bool{
		"creating a table": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpCreate && strings.Contains(op.Path, stagingName)
		},
		"writing a table": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst")
		},
		"syncing a table": func(op errorfs.Op) bool {
			return isSync(op) && strings.HasSuffix(op.Path, ".sst")
		},
		"writing the manifest": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileWrite && strings.Contains(op.Path, "MANIFEST")
		},
		"syncing the manifest": func(op errorfs.Op) bool { return isSync(op) && strings.Contains(op.Path, "MANIFEST") },
		"writing the seal": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileWrite && strings.Contains(op.Path, sealName)
		},
		"renaming the seal": func(op errorfs.Op) bool { return op.Kind == errorfs.OpRename },
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			var armed atomic.Bool
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if armed.Load() && match(op) {
					return errorfs.ErrInjected
				}
				return nil
			}))
			fatal := make(chan error, 9)
			s, err := Open(Options{Path: testPath, FS: fs, Logger: quiet(), Fatal: func(err error) { fatal <- err }})
			if err != nil {
				t.Fatal(err)
			}
			shard := openShard(t, s)
			if err := errors.Join(shard.Update(setApplied(1)), s.Flush(t.Context())); err != nil {
				t.Fatal(err)
			}
			if err := shard.Update(setApplied(2)); err != nil {
				t.Fatal(err)
			}
			armed.Store(true)
			if err := s.Flush(t.Context()); err == nil {
				t.Error("the flush succeeded")
			}
			select {
			case err := <-fatal:
				if !errors.Is(err, errorfs.ErrInjected) && !strings.Contains(err.Error(), errorfs.ErrInjected.Error()) {
					t.Errorf("Fatal was told %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("Fatal was not called")
			}
			if err := shard.Update(setApplied(3)); err == nil {
				t.Error("updates go on")
			}
			if shard.Record().Index != 1 {
				t.Errorf("durable: %+v", shard.Record())
			}
			for range 2 {
				_ = s.Close() // whatever it says, it comes back
			}
			clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0, RNG: rand.New(rand.NewPCG(1, 2))})
			again := openTest(t, clone, testPath, 0)
			defer closeTest(t, again)
			if index := openShard(t, again).Record().Index; index < 1 {
				t.Errorf("after a restart: %d", index)
			}
		})
	}
}

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}
