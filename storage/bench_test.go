package storage

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"parley/wire"
)

// Figures of these benchmarks are CPU time of the whole process, by getrusage, and bytes of
// the files: both repeat on a busy machine, where elapsed time does not. Run each with a
// fixed count, so that flushes and compactions are the same, for example
//
//	go test ./storage -run '^$' -bench Append -benchtime 2000000x

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// texts makes lines of 64 bytes that compress as chat does: words of a vocabulary of 4,000
// in Zipf's distribution, with now and then a number or a typing error.
func texts(r *rand.Rand, n int) [][]byte {
	words := make([]string, 4000)
	for i := range words {
		word := make([]byte, 2+r.IntN(7))
		for k := range word {
			word[k] = "etaoinshrdlucmfwypvbgkqjxz"[min(r.IntN(26), r.IntN(26))]
		}
		words[i] = string(word)
	}
	zipf := rand.NewZipf(r, 1.1, 8, uint64(len(words)-1))
	lines := make([][]byte, n)
	for i := range lines {
		var line []byte
		for len(line) < 64 {
			switch r.IntN(20) {
			case 0:
				line = fmt.Appendf(line, "%d ", r.IntN(1000))
			default:
				line = append(append(line, words[zipf.Uint64()]...), ' ')
			}
		}
		line = line[:64]
		line[r.IntN(64)] = byte('a' + r.IntN(26))
		lines[i] = line
	}
	return lines
}

func openBench(b *testing.B, dir string) (*Store, []*Shard) {
	s, err := Open(Options{Path: dir, Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { b.Fatal(err) }})
	if err != nil {
		b.Fatal(err)
	}
	shards := make([]*Shard, 8)
	for i := range shards {
		width := wire.Slots / len(shards)
		shards[i], err = s.Shard(uint32(i+1), wire.Slot(i*width), wire.Slot((i+1)*width-1))
		if err != nil {
			b.Fatal(err)
		}
	}
	return s, shards
}

// quiesce waits until compactions have nothing to do.
func quiesce(s *Store) {
	for idle := 0; idle < 5; {
		time.Sleep(20 * time.Millisecond)
		m := s.db.Metrics()
		if m.Compact.NumInProgress == 0 {
			idle++
		} else {
			idle = 0
		}
	}
}

type benchLoad struct {
	shards []*Shard
	per    [][]benchConversation
	lines  [][]byte
	rand   *rand.Rand
	index  uint64
	clock  wire.Time
}

type benchConversation struct {
	c           wire.Conversation
	head, sentA uint64
	outboxes    []Outbox
}

func newBenchLoad(shards []*Shard, conversations int) *benchLoad {
	l := &benchLoad{shards: shards, per: make([][]benchConversation, len(shards)), rand: rand.New(rand.NewPCG(1, 2))}
	l.lines = texts(l.rand, 1<<16)
	for range conversations {
		c := wire.DirectConversation(wire.MakeID(wire.Slot(l.rand.IntN(wire.Slots)), l.rand.Uint64()),
			wire.MakeID(wire.Slot(l.rand.IntN(wire.Slots)), l.rand.Uint64()))
		at := int(c.Slot()) / (wire.Slots / len(shards))
		l.per[at] = append(l.per[at], benchConversation{c: c, outboxes: []Outbox{
			{Author: c.A, Device: c.A, Epoch: l.rand.Uint64(), Counter: 1, Sequence: 1},
			{Author: c.B, Device: c.B, Epoch: l.rand.Uint64(), Counter: 1, Sequence: 1}}})
	}
	l.clock = 1 << 33
	return l
}

// batch appends n messages to random conversations of one shard, with records or without.
func (l *benchLoad) batch(b *testing.B, n int, records bool) {
	at := l.rand.IntN(len(l.shards))
	own := l.per[at]
	l.index++
	l.clock += wire.Time(n / 50)
	err := l.shards[at].Update(func(w *Writer) error {
		var m Message
		for range n {
			k := &own[l.rand.IntN(len(own))]
			k.head++
			m = Message{Sequence: k.head, Revision: k.head, Time: l.clock, Author: k.c.A}
			side := l.rand.IntN(2)
			if side == 1 {
				m.Author = k.c.B
			}
			if k.head > 2 {
				m.Previous = k.head - 1 - uint64(side)
			}
			m.Content.Bytes = l.lines[l.rand.IntN(len(l.lines))]
			w.AppendMessage(k.c, k.sentA, &m)
			if side == 0 {
				k.sentA++
			}
			if records {
				k.outboxes[side].Counter, k.outboxes[side].Sequence = k.head, k.head
				w.PutConversation(k.c, &Conversation{Head: k.head, Revision: k.head, Time: l.clock,
					Changed: l.index, SentA: k.sentA, Memory: Memory{Outboxes: k.outboxes}})
				w.PutMember(k.c, m.Author, &Member{Delivered: Cursor{Position: k.head}, Read: Cursor{Position: k.head,
					Steps: []Step{{k.head, l.clock}}}})
				w.PutUserIndex(&UserIndex{User: k.c.A, Conversation: k.c, Changed: l.index})
				w.PutUserIndex(&UserIndex{User: k.c.B, Conversation: k.c, Changed: l.index})
			}
		}
		w.SetApplied(l.index, 1)
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func benchmarkAppend(b *testing.B, conversations int, records bool) {
	dir := b.TempDir()
	s, shards := openBench(b, filepath.Join(dir, "state"))
	l := newBenchLoad(shards, conversations)
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu()
	for done := 0; done < b.N; {
		n := min(256, b.N-done)
		l.batch(b, n, records)
		done += n
	}
	apply := cpu()
	if err := s.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	quiesce(s)
	total := cpu() - start
	b.StopTimer()
	m := s.Metrics()
	n := float64(b.N)
	b.ReportMetric(float64(total.Nanoseconds())/n, "cpu-ns/message")
	b.ReportMetric(float64((apply-start).Nanoseconds())/n, "cpu-ns-before-last-flush/message")
	b.ReportMetric(float64(m.TableBytes)/n, "disk-B/message")
	b.ReportMetric(float64(m.FlushedBytes+m.CompactedBytes)/n, "written-B/message")
	b.ReportMetric(float64(m.Flushes), "flushes")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if os.Getenv("STORAGE_BENCH_VERBOSE") != "" {
		b.Logf("%+v", m)
	}
}

// BenchmarkAppend is the cost of one message of 64 bytes in 65,536 conversations, with
// buffer, flush and compaction, but no other records.
func BenchmarkAppend(b *testing.B) { benchmarkAppend(b, 65536, false) }

// BenchmarkAppendRecords adds what a chat server writes beside: head, cursors, user index.
func BenchmarkAppendRecords(b *testing.B) { benchmarkAppend(b, 65536, true) }

// benchReads is a store of 2,000,000 messages in 65,536 conversations, flushed and compacted,
// and what was appended to it.
func benchReads(b *testing.B) (*Store, *benchLoad) {
	s, shards := openBench(b, filepath.Join(b.TempDir(), "state"))
	l := newBenchLoad(shards, 65536)
	for range 2_000_000 / 256 {
		l.batch(b, 256, false)
	}
	for at, own := range l.per {
		l.index++
		err := shards[at].Update(func(w *Writer) error {
			for i := range own {
				k := &own[i]
				w.PutConversation(k.c, &Conversation{Head: k.head, Revision: k.head, SentA: k.sentA, Memory: Memory{Outboxes: k.outboxes}})
			}
			w.SetApplied(l.index, 1)
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	quiesce(s)
	return s, l
}

// benchmarkRead runs one read of a random conversation at a time.
func benchmarkRead(b *testing.B, read func(r *Reader, k *benchConversation) error) {
	s, l := benchReads(b)
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu()
	for range b.N {
		at := l.rand.IntN(len(l.per))
		k := &l.per[at][l.rand.IntN(len(l.per[at]))]
		if err := l.shards[at].View(func(r *Reader) error { return read(r, k) }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu()-start).Nanoseconds())/float64(b.N), "cpu-ns/read")
	b.ReportMetric(float64(s.Metrics().ReadAmplify), "tables/read")
	b.StopTimer()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkReadConversation gets a head record from the tables.
func BenchmarkReadConversation(b *testing.B) {
	benchmarkRead(b, func(r *Reader, k *benchConversation) error {
		v, ok, err := r.Conversation(k.c)
		if err == nil && (!ok || v.Head != k.head) {
			b.Fatalf("head %d, want %d", v.Head, k.head)
		}
		return err
	})
}

// BenchmarkReadLast50 reads the last 50 messages (all, of some 30) backward from the tables.
func BenchmarkReadLast50(b *testing.B) {
	benchmarkRead(b, func(r *Reader, k *benchConversation) error {
		n := uint64(0)
		err := r.MessagesBackward(k.c, k.head-min(k.head, 49), k.head, func(Message) (bool, error) { n++; return true, nil })
		if err == nil && n != min(k.head, 50) {
			b.Fatalf("%d messages, want %d", n, min(k.head, 50))
		}
		return err
	})
}

// BenchmarkReadForward reads up to 20 messages from the middle forward.
func BenchmarkReadForward(b *testing.B) {
	benchmarkRead(b, func(r *Reader, k *benchConversation) error {
		return r.Messages(k.c, k.head/2, k.head/2+19, func(Message) (bool, error) { return true, nil })
	})
}

// BenchmarkReadBuffered reads the last 20 messages of a conversation that is in memory.
func BenchmarkReadBuffered(b *testing.B) {
	s, shards := openBench(b, filepath.Join(b.TempDir(), "state"))
	l := newBenchLoad(shards, 1000)
	for range 100 {
		l.batch(b, 256, true)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		at := l.rand.IntN(len(l.per))
		k := &l.per[at][l.rand.IntN(len(l.per[at]))]
		err := l.shards[at].View(func(r *Reader) error {
			return r.MessagesBackward(k.c, k.head-min(k.head, 19), k.head, func(Message) (bool, error) { return true, nil })
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAppendRecordsFew is the same in 200 conversations, which fit the processor's cache.
func BenchmarkAppendRecordsFew(b *testing.B) { benchmarkAppend(b, 200, true) }
