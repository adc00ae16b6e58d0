package link

import (
	"context"
	"fmt"
	"time"
)

// A JoinHandler handles the call of a node that has no number yet, on a goroutine of its own. It
// may block; the context ends with the hub, or when the node would not wait any longer.
type JoinHandler func(ctx context.Context, payload []byte) ([]byte, error)

// joinTimeout is how long a join may take, changes of the cluster map included.
const joinTimeout = 30 * time.Second

// HandleJoin makes this node take joins.
func (h *Hub) HandleJoin(fn JoinHandler) { h.join.Store(&fn) }

// Join makes one call to a node whose number is not known, over a connection of its own: how a
// node that has no number yet gets one. A *RemoteError is the handler's. ErrRefused says that the
// node is of another cluster than this one claims to be of, or takes no joins.
func (h *Hub) Join(ctx context.Context, address string, payload []byte) ([]byte, error) {
	if len(payload) > MessageBytesMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrFrameTooLarge, len(payload))
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	s, _, err := h.dialAddress(ctx, address, &hello{purpose: purposeJoin, from: h.Self(), cluster: h.cluster.Load()}, &h.total)
	if err != nil {
		return nil, err
	}
	defer h.abandon(s)
	defer context.AfterFunc(ctx, s.close)()
	defer context.AfterFunc(h.ctx, s.close)()
	b, err := closeFrame(append(openFrame(nil, frameRequest), payload...), 0)
	if err != nil {
		return nil, err
	}
	if err := s.writeAll(b); err != nil {
		return nil, fmt.Errorf("link: join %s: %w", address, err)
	}
	kind, body, err := (&frameReader{in: s.in}).next()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("link: join %s: %w", address, noEOF(err))
	}
	d := &decoder{b: body}
	d.uvarint()
	c := &call{done: make(chan struct{})}
	if err := c.answer(kind, d); err != nil {
		return nil, err
	}
	return c.payload, c.err
}

// serveJoin takes one call.
func (h *Hub) serveJoin(s *stream, request []byte) error {
	select {
	case h.joins <- struct{}{}:
		defer func() { <-h.joins }()
	default:
		return s.answerJoin(nil, &RemoteError{CodeBusy, "too many nodes are joining"})
	}
	ctx, cancel := context.WithTimeout(h.ctx, joinTimeout)
	defer cancel()
	answer, err := (*h.join.Load())(ctx, request)
	return s.answerJoin(answer, err)
}

func (s *stream) answerJoin(answer []byte, failure error) error {
	var b []byte
	if failure != nil {
		b = appendFailure(append(openFrame(nil, frameFailure), 0), failure)
	} else {
		b = append(append(openFrame(nil, frameAnswer), 0), answer...)
	}
	b, err := closeFrame(b, 0)
	if err != nil {
		return err
	}
	return s.writeAll(b)
}
