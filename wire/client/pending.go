package client

import (
	"context"
	"fmt"

	"parley/wire"
)

// A Sent is the server's acknowledgement: the message is on disk on a majority.
type Sent struct {
	// Ref is the conversation: for what made a group, that group.
	Ref      wire.Ref
	Sequence uint64
	Time     wire.Time
	// Found says that the message was not acknowledged but found in the conversation's
	// history, after the server no longer knew (UNKNOWN_OUTCOME). Its author and content
	// are those of the send.
	Found bool
}

// A Pending is one send on its way. Any goroutine may use it.
type Pending struct {
	ref     wire.Ref
	content wire.Content
	kept    chan struct{} // closed when the store has answered, or never will
	stored  bool          // what it answered; read it after kept
	done    chan struct{}
	sent    Sent // read it after done
	err     error
}

func newPending(ref wire.Ref, content wire.Content) *Pending {
	return &Pending{ref: ref, content: content, kept: make(chan struct{}), done: make(chan struct{})}
}

// Ref is the conversation; that of what makes a group is wire.GroupRef(0).
func (p *Pending) Ref() wire.Ref { return p.ref }

// Content is what is sent; it must not be changed.
func (p *Pending) Content() wire.Content { return p.content }

// Done is closed when the outcome is known.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Result is the outcome once Done is closed, and ErrUnfinished before: a *wire.Error if
// the server refused the message for good, ErrUnknownOutcome if nobody knows.
func (p *Pending) Result() (Sent, error) {
	select {
	case <-p.done:
		return p.sent, p.err
	default:
		return Sent{}, ErrUnfinished
	}
}

// wait waits for the outcome, or for the end of ctx.
func (p *Pending) wait(ctx context.Context) (Sent, error) {
	select {
	case <-p.Done():
		return p.Result()
	case <-ctx.Done():
		return Sent{}, fmt.Errorf("%w: %w", ErrUnfinished, ctx.Err())
	}
}

// keep takes the store's word that it has the send. The driver's goroutine calls it.
func (p *Pending) keep() {
	if !p.stored {
		p.stored = true
		close(p.kept)
	}
}

// finish takes the outcome. The driver's goroutine calls it, once.
func (p *Pending) finish(sent Sent, err error) {
	p.sent, p.err = sent, err
	close(p.done)
	if !p.stored {
		close(p.kept)
	}
}
