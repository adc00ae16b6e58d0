package link

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
)

func TestANodeWithoutANumberJoinsThroughAnyAddress(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		one := w.hub(1)
		one.HandleJoin(func(_ context.Context, payload []byte) ([]byte, error) {
			switch string(payload) {
			case "again":
				return nil, &RemoteError{CodeEngine + 2, "this identity has a number"}
			case "large":
				return bytes.Repeat([]byte("m"), MessageBytesMax), nil
			}
			return append([]byte("you are 2, "), payload...), nil
		})
		o := w.options(2)
		o.Self, o.Cluster = 0, 0
		two := w.open(o)
		address, _ := w.address(1)
		if b, err := two.Join(t.Context(), address, []byte("ada")); err != nil || string(b) != "you are 2, ada" {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := two.Join(t.Context(), address, []byte("again")); !hasCode(err, CodeEngine+2) {
			t.Errorf("refused by the handler: %v", err)
		}
		if b, err := two.Join(t.Context(), address, []byte("large")); err != nil || len(b) != MessageBytesMax {
			t.Errorf("a large answer: %d bytes, %v", len(b), err)
		}
		two.SetSelf(2, 8)
		if _, err := two.Join(t.Context(), address, nil); !errors.Is(err, ErrRefused) {
			t.Errorf("from another cluster: %v", err)
		}
		two.SetSelf(2, 7)
		two.Connect([]uint32{1})
		one.Connect([]uint32{2})
		w.up(two, 1)
		w.up(one, 2)
		nowhere, _ := w.address(2)
		if err := two.Close(); err != nil {
			t.Error(err)
		}
		if _, err := one.Join(t.Context(), nowhere, nil); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("where nobody listens: %v", err)
		}
	})
}

func TestJoinsAreBoundedAndEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		one, two := w.hub(1), w.hub(2)
		one.HandleJoin(func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		address, _ := w.address(1)
		ctx, cancel := context.WithCancel(t.Context())
		var joining sync.WaitGroup
		for range joinsMax {
			joining.Go(func() {
				if _, err := two.Join(ctx, address, nil); !errors.Is(err, context.Canceled) {
					t.Errorf("cancelled: %v", err)
				}
			})
		}
		synctest.Wait()
		if _, err := two.Join(t.Context(), address, nil); !hasCode(err, CodeBusy) {
			t.Errorf("one too many: %v", err)
		}
		cancel()
		joining.Wait()
	})
}
