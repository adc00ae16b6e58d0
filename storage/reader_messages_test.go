package storage

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// gapChunk is how many messages each chunk of gapStore holds, gapHead the conversation's
// head; the messages behind gapIngested are in the buffer.
const (
	gapChunk    = 10
	gapIngested = 50
	gapHead     = 60
)

// gapStore has a conversation of five ingested chunks and one in the buffer.
func gapStore(t *testing.T) (*Store, *Shard) {
	s := openTest(t, vfs.NewMem(), testPath, 0)
	t.Cleanup(func() { closeTest(t, s) })
	shard := openShard(t, s)
	for first := uint64(1); first <= gapHead; first += gapChunk {
		err := shard.Update(func(w *Writer) error {
			for sequence := first; sequence < first+gapChunk; sequence++ {
				w.AppendMessage(pair, sequence-1, &Message{Sequence: sequence, Revision: sequence, Author: pair.A})
			}
			head := first + gapChunk - 1
			w.PutConversation(pair, &Conversation{Head: head, Revision: head, SentA: head})
			w.SetApplied(first, 1)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if first+gapChunk <= gapIngested+1 {
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s, shard
}

// A chunk that is lost is noticed by every read that wanted anything of it, at the ends of
// the range too, and by no other.
func TestALostChunkIsNoticedByWhoNeedsIt(t *testing.T) {
	for lost := uint64(1); lost <= gapIngested; lost += gapChunk {
		s, shard := gapStore(t)
		if err := s.db.Delete(appendSequence(appendChunkPrefix(nil, pair.Slot(), pair), lost), pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		err := shard.View(func(r *Reader) error {
			for from := uint64(1); from <= gapHead+2; from++ {
				for to := from; to <= gapHead+5; to++ {
					if err := rangeNotices(r, from, to, from < lost+gapChunk && to >= lost); err != nil {
						return err
					}
				}
				_, err := r.SentBefore(pair, from)
				if want := from >= lost && from < lost+gapChunk; errors.Is(err, ErrDamaged) != want {
					return fmt.Errorf("sent before %d: %v", from, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("without the chunk at %d: %v", lost, err)
		}
	}
}

// rangeNotices reads a range both ways, and says if ErrDamaged did not come or not come as
// it should.
func rangeNotices(r *Reader, from, to uint64, want bool) error {
	for name, read := range map[string]reading{"forward": r.Messages, "backward": r.MessagesBackward} {
		list, err := readMessages(read, pair, from, to)
		if errors.Is(err, ErrDamaged) != want || err != nil && !want {
			return fmt.Errorf("%s %d..%d: %v", name, from, to, err)
		}
		expected := 0
		if from <= gapHead {
			expected = int(min(to, gapHead) - from + 1)
		}
		if err == nil && len(list) != expected {
			return fmt.Errorf("%s %d..%d: %d messages", name, from, to, len(list))
		}
	}
	return nil
}

// Who stops before a gap has what it wanted.
func TestAReadThatStopsBeforeAGapIsWhole(t *testing.T) {
	s, shard := gapStore(t)
	if err := s.db.Delete(appendSequence(appendChunkPrefix(nil, pair.Slot(), pair), 21), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	err := shard.View(func(r *Reader) error {
		for name, read := range map[string]reading{"forward": r.Messages, "backward": r.MessagesBackward} {
			count := 0
			err := read(pair, 1, gapHead, func(Message) (bool, error) { count++; return count < 20, nil })
			if err != nil || count != 20 {
				return fmt.Errorf("%s: %d messages, %w", name, count, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
