package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// everywhere runs a test on loopback TCP and in memory under synctest.
func everywhere(t *testing.T, test func(t *testing.T, w *world)) {
	t.Run("tcp", func(t *testing.T) { test(t, newWorld(t, true)) })
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, false)) })
	})
}

func TestMessagesArriveOnceAndInOrderFromSeveralSenders(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		const senders, each = 4, 2000
		hubs := w.mesh(2)
		var mu sync.Mutex
		next := make(map[byte]uint32)
		done := make(chan struct{})
		total := 0
		hubs[1].Handle(9, func(from uint32, payload []byte) {
			mu.Lock()
			defer mu.Unlock()
			sender, n := payload[0], binary.BigEndian.Uint32(payload[1:])
			if from != 1 || n != next[sender] {
				t.Errorf("from %d: message %d of sender %d, want %d", from, n, sender, next[sender])
			}
			next[sender] = n + 1
			if total++; total == senders*each {
				close(done)
			}
		})
		var sending sync.WaitGroup
		for s := range senders {
			sending.Go(func() {
				for i := range each {
					if err := hubs[0].Send(2, 9, binary.BigEndian.AppendUint32([]byte{byte(s)}, uint32(i))); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		sending.Wait()
		<-done
	})
}

func TestCallsAreAnsweredOutOfOrderWithErrorsAndCodes(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		hubs := w.mesh(2)
		var replies []Reply
		hubs[1].HandleCall(1, func(_ context.Context, _ uint32, payload []byte, reply Reply) {
			switch string(payload) {
			case "hold":
				replies = append(replies, reply)
			case "release":
				for i, r := range replies {
					r(fmt.Append(nil, i), nil)
					r([]byte("a second answer"), nil)
				}
				reply(nil, nil)
			case "fail":
				reply(nil, errors.New("no"))
			case "code":
				reply(nil, fmt.Errorf("wrapped: %w", &RemoteError{CodeEngine + 1, "moved"}))
			case "huge":
				reply(make([]byte, MessageBytesMax+1), nil)
			}
		})
		var held sync.WaitGroup
		for range 3 {
			held.Go(func() {
				if b, err := hubs[0].Call(t.Context(), 2, 1, []byte("hold")); err != nil || len(b) != 1 {
					t.Errorf("held call: %q, %v", b, err)
				}
			})
		}
		eventually(t, "three calls under way", func() bool { return hubs[1].inboundCalls(1) == 3 })
		if b, err := hubs[0].Call(t.Context(), 2, 1, []byte("release")); err != nil || len(b) != 0 || b == nil {
			t.Errorf("release: %q, %v", b, err)
		}
		held.Wait()
		for payload, want := range map[string]RemoteError{
			"fail": {CodeFailed, "no"}, "code": {CodeEngine + 1, "moved"}, "huge": {CodeTooLarge, "the answer has 2097153 bytes"},
		} {
			_, err := hubs[0].Call(t.Context(), 2, 1, []byte(payload))
			if got, ok := errors.AsType[*RemoteError](err); !ok || *got != want {
				t.Errorf("%s: %v, want %v", payload, err, want)
			}
		}
		if _, err := hubs[0].Call(t.Context(), 2, 2, nil); !hasCode(err, CodeNoHandler) {
			t.Errorf("a kind without a handler: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := hubs[0].Call(ctx, 2, 1, []byte("silence")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call without an answer: %v", err)
		}
	})
}

func hasCode(err error, code uint32) bool {
	e, ok := errors.AsType[*RemoteError](err)
	return ok && e.Code == code
}

// inboundCalls counts the calls of a node that were not answered.
func (h *Hub) inboundCalls(node uint32) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if in := h.inbound[node]; in != nil {
		return int(in.calls.Load())
	}
	return 0
}
