package delivery

import (
	"bytes"
	"errors"
	"testing"

	"parley/wire"
)

func push(b *Backlog, ref wire.Ref, sequence uint64, size int) ([]byte, error) {
	m := wire.Message{Ref: ref, Sequence: sequence, Revision: sequence, Content: wire.Content{Bytes: bytes.Repeat([]byte{'x'}, size)}}
	frame := wire.AppendMessage(nil, &m)
	return frame, b.Message(wire.Head{Ref: ref, Sequence: sequence, Revision: sequence}, frame)
}

func frames(t *testing.T, b []byte) (all []wire.Frame) {
	t.Helper()
	for len(b) > 0 {
		f, rest, err := wire.NextFrame(b)
		if err != nil {
			t.Fatal(err)
		}
		all, b = append(all, f), rest
	}
	return all
}

func TestBacklogKeepsPushesInOrderWithinItsBound(t *testing.T) {
	var b Backlog
	var want []byte
	for i := range 10 {
		frame, err := push(&b, wire.DirectRef(7), uint64(i+1), 100)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, frame...)
	}
	if got := b.Append(nil); !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, want %d", len(got), len(want))
	}
	if got := b.Append(nil); len(got) != 0 {
		t.Fatalf("%d bytes after it was emptied", len(got))
	}
}

// One byte beyond the bound turns all pushes, the first ones too, into one HEAD each.
func TestBacklogBeyondItsBoundIsOneHeadAConversation(t *testing.T) {
	var b Backlog
	total := 0
	for i := uint64(1); total <= BacklogBytesMax; i++ {
		if b.Collapsed() {
			t.Fatalf("collapsed at %d bytes", total)
		}
		for _, ref := range []wire.Ref{wire.DirectRef(7), wire.DirectRef(8)} {
			frame, err := push(&b, ref, i, 1000)
			if err != nil {
				t.Fatal(err)
			}
			total += len(frame)
		}
	}
	receipt := wire.Receipt{Ref: wire.DirectRef(7), Kind: wire.Read, Position: 3, Time: 9}
	for _, position := range []uint64{3, 5, 4} {
		receipt.Position = position
		if err := b.Receipt(receipt, wire.AppendReceipt(nil, &receipt)); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []uint64{3, 5, 4} {
		own := wire.OwnState{Ref: wire.DirectRef(7), Version: version}
		if err := b.Own(own, wire.AppendOwnState(nil, &own)); err != nil {
			t.Fatal(err)
		}
	}
	if !b.Collapsed() {
		t.Fatal("not collapsed")
	}
	heads, receipts, owned := map[wire.Ref]uint64{}, 0, 0
	for _, f := range frames(t, b.Append(nil)) {
		switch f.Type {
		case wire.TypeHead:
			h, err := wire.ParseHead(f)
			if err != nil {
				t.Fatal(err)
			}
			heads[h.Ref] = h.Sequence
		case wire.TypeReceipt:
			r, err := wire.ParseReceipt(f)
			if err != nil || r.Position != 5 {
				t.Fatalf("receipt %+v, %v", r, err)
			}
			receipts++
		case wire.TypeOwnState:
			if s, err := wire.ParseOwnState(f); err != nil || s.Version != 5 {
				t.Fatalf("own state %+v, %v", s, err)
			}
			owned++
		default:
			t.Fatalf("%v in a collapsed backlog", f.Type)
		}
	}
	if len(heads) != 2 || heads[wire.DirectRef(7)] < 30 || heads[wire.DirectRef(7)] != heads[wire.DirectRef(8)] || receipts != 1 || owned != 1 {
		t.Fatalf("heads %v, %d receipts, %d of its own", heads, receipts, owned)
	}
	if b.Collapsed() {
		t.Fatal("still collapsed after it was emptied")
	}
}

func TestBacklogRefusesOneConversationMoreThanItsBound(t *testing.T) {
	var b Backlog
	for i := range BacklogEntriesMax {
		if _, err := push(&b, wire.DirectRef(wire.ID(i+1)), 1, 1); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	if _, err := push(&b, wire.DirectRef(BacklogEntriesMax+1), 1, 1); !errors.Is(err, ErrBacklogFull) {
		t.Fatalf("got %v", err)
	}
}
