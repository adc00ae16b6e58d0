package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
)

// A Kind says what an engine's message or call is about. The engine gives the numbers.
type Kind uint8

// Codes of a RemoteError that the link itself gives. The engine's begin at CodeEngine.
const (
	CodeFailed    uint32 = 1  // the handler returned an error without a code
	CodeBusy      uint32 = 2  // CallsMax calls are under way
	CodeNoHandler uint32 = 3  // the peer does not know this kind
	CodeTooLarge  uint32 = 4  // the answer is above MessageBytesMax
	CodeEngine    uint32 = 16 // the engine's begin here
)

// A RemoteError is what a peer answered instead of an answer. A handler may give one to choose its
// code.
type RemoteError struct {
	Code uint32
	Text string
}

// Error says what the peer said.
func (e *RemoteError) Error() string { return fmt.Sprintf("link: peer: %s (%d)", e.Text, e.Code) }

// A MessageHandler takes a peer's messages, in their order, on the goroutine that reads from the
// peer: it must not block, and everything else that the peer sends waits for it. The payload
// dies at its return.
type MessageHandler func(from uint32, payload []byte)

// A Reply answers a call, once; later ones do nothing. It may be called on any goroutine. It copies
// the answer and does not block.
type Reply func(answer []byte, err error)

// A CallHandler begins to handle a peer's call, like a MessageHandler; the answer may come later,
// through reply, and must come. The context ends with the connection.
type CallHandler func(ctx context.Context, from uint32, payload []byte, reply Reply)

type handler struct {
	message MessageHandler
	call    CallHandler
}

// Handle sets the handler of a kind of messages. Before Connect nothing comes.
func (h *Hub) Handle(kind Kind, fn MessageHandler) {
	h.setHandler(kind, func(to *handler) { to.message = fn })
}

// HandleCall sets the handler of a kind of calls.
func (h *Hub) HandleCall(kind Kind, fn CallHandler) {
	h.setHandler(kind, func(to *handler) { to.call = fn })
}

func (h *Hub) setHandler(kind Kind, set func(*handler)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var next handler
	if old := h.handlers[kind].Load(); old != nil {
		next = *old
	}
	set(&next)
	h.handlers[kind].Store(&next)
}

// Send sends a message. It copies the payload and does not block. ErrUnreachable and ErrQueueFull
// mean that nothing was sent. What was sent arrives once and in order, or the link breaks: see
// Watch.
func (h *Hub) Send(node uint32, kind Kind, payload []byte) error {
	l, err := h.linkTo(node, len(payload))
	if err != nil {
		return err
	}
	b, err := l.out.begin(MessageQueueBytesMax)
	if err != nil {
		return err
	}
	start := len(b)
	b = append(openFrame(b, frameMessage), byte(kind))
	return l.out.commit(append(b, payload...), start, 1, true)
}

// linkTo returns the connection to a node.
func (h *Hub) linkTo(node uint32, size int) (*link, error) {
	if size > MessageBytesMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrFrameTooLarge, size)
	}
	p := h.peer(node)
	if p == nil {
		return nil, fmt.Errorf("%w: there is no link to node %d", ErrUnreachable, node)
	}
	l, _ := p.current()
	if l == nil {
		return nil, fmt.Errorf("%w: no link to node %d", ErrUnreachable, node)
	}
	return l, nil
}

// Call asks a peer and waits for the answer. A *RemoteError is the peer's; after ErrUnreachable or
// the context's error the peer may or may not have handled it.
func (h *Hub) Call(ctx context.Context, node uint32, kind Kind, payload []byte) ([]byte, error) {
	l, err := h.linkTo(node, len(payload))
	if err != nil {
		return nil, err
	}
	c := &call{done: make(chan struct{})}
	correlation, err := l.register(c, true)
	if err != nil {
		return nil, err
	}
	if err := l.writeCall(correlation, kind, payload); err != nil {
		l.forget(correlation, true)
		return nil, err
	}
	select {
	case <-c.done:
		return c.payload, c.err
	case <-ctx.Done():
		l.forget(correlation, true)
		return nil, ctx.Err()
	}
}

func (l *link) writeCall(correlation uint64, kind Kind, payload []byte) error {
	b, err := l.out.begin(MessageQueueBytesMax)
	if err != nil {
		return err
	}
	start := len(b)
	b = binary.AppendUvarint(openFrame(b, frameCall), correlation)
	b = append(append(b, byte(kind)), payload...)
	return l.out.commit(b, start, 1, true)
}

// A call is a question of the engine.
type call struct {
	done    chan struct{}
	payload []byte
	err     error
}

func (c *call) answer(kind frameKind, d *decoder) error {
	switch kind {
	case frameAnswer:
		c.payload = append([]byte{}, d.rest()...)
	case frameFailure:
		e := &RemoteError{Code: d.uint32(), Text: string(d.bytes(textBytesMax))}
		if err := d.end(kind); err != nil {
			return err
		}
		c.err = e
	default:
		return fmt.Errorf("%w: kind %d does not answer a call", ErrFrame, kind)
	}
	close(c.done)
	return nil
}

func (c *call) fail(err error) {
	c.err = err
	close(c.done)
}

// message hands a message to its handler.
func (in *inbound) message(d *decoder) error {
	kind := d.byte()
	if d.bad {
		return d.end(frameMessage)
	}
	to := in.hub.handlers[kind].Load()
	if to == nil || to.message == nil {
		in.count.drops.Add(1)
		if in.hub.complaints.fresh(fmt.Sprintf("message %d", kind)) {
			in.hub.logger.Warn("link: message of a kind that nobody handles", "node", in.node, "kind", kind)
		}
		return nil
	}
	to.message(in.node, d.rest())
	return nil
}

// call begins a call.
func (in *inbound) call(d *decoder) error {
	correlation, kind := d.uvarint(), d.byte()
	if d.bad {
		return d.end(frameCall)
	}
	to := in.hub.handlers[kind].Load()
	switch {
	case to == nil || to.call == nil:
		return in.fail(correlation, &RemoteError{CodeNoHandler, fmt.Sprintf("nobody handles calls of kind %d", kind)})
	case in.calls.Add(1) > CallsMax:
		in.calls.Add(-1)
		in.count.drops.Add(1)
		return in.fail(correlation, &RemoteError{CodeBusy, "too many calls are under way"})
	}
	var once atomic.Bool
	to.call(in.ctx, in.node, d.rest(), func(answer []byte, err error) {
		if once.Swap(true) {
			return
		}
		in.calls.Add(-1)
		if err == nil && len(answer) > MessageBytesMax {
			err = &RemoteError{CodeTooLarge, fmt.Sprintf("the answer has %d bytes", len(answer))}
		}
		if err != nil {
			_ = in.fail(correlation, err) // a broken connection has nobody to tell
		} else {
			_ = in.answer(correlation, answer)
		}
	})
	return nil
}

// answer ends a call.
func (in *inbound) answer(correlation uint64, payload []byte) error {
	b, err := in.out.begin(QueueBytesMax)
	if err != nil {
		return in.overflow(err)
	}
	start := len(b)
	b = binary.AppendUvarint(openFrame(b, frameAnswer), correlation)
	return in.out.commit(append(b, payload...), start, 1, true)
}

// fail ends a call with an error.
func (in *inbound) fail(correlation uint64, failure error) error {
	b, err := in.out.begin(QueueBytesMax)
	if err != nil {
		return in.overflow(err)
	}
	start := len(b)
	b = binary.AppendUvarint(openFrame(b, frameFailure), correlation)
	return in.out.commit(appendFailure(b, failure), start, 1, true)
}

// appendFailure encodes an error with its code.
func appendFailure(b []byte, failure error) []byte {
	remote := &RemoteError{Code: CodeFailed, Text: failure.Error()}
	if given, ok := errors.AsType[*RemoteError](failure); ok {
		remote = given
	}
	b = binary.AppendUvarint(b, uint64(remote.Code))
	return appendBytes(b, remote.Text[:min(len(remote.Text), textBytesMax)])
}
