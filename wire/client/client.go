package client

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"parley/wire"
)

// A Client is one device of one user. It keeps itself connected until it is closed or
// the server sends it away for good. Any goroutine may call its methods.
type Client struct {
	driver *driver
	slots  chan struct{} // one for each request of a caller
	once   sync.Once
}

// Open connects and returns once the server has let the client in. Until then it tries
// again by itself; it returns an error when the server refuses for good, or with ctx's
// error and that of the last attempt when ctx ends. Afterwards the client reconnects by
// itself and ctx has no meaning for it.
func Open(ctx context.Context, o Options) (*Client, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	state, err := o.Outbox.Load()
	if err != nil {
		o.Outbox.Close()
		return nil, err
	}
	if err := state.check(); err != nil {
		o.Outbox.Close()
		return nil, err
	}
	d := newDriver(newCore(&o, defaultLimits, o.source(), state), &o, o.Outbox)
	c := &Client{driver: d, slots: make(chan struct{}, RequestsMax)}
	go d.loop()
	select {
	case <-d.opened:
		if d.openErr != nil {
			c.Close()
			return nil, d.openErr
		}
		return c, nil
	case <-ctx.Done():
		c.Close()
		if d.lastErr != nil {
			return nil, fmt.Errorf("client: not connected: %w: last attempt: %w", ctx.Err(), d.lastErr)
		}
		return nil, fmt.Errorf("client: not connected: %w", ctx.Err())
	}
}

// User is who this client speaks for.
func (c *Client) User() wire.ID { return c.driver.user }

// Device is the device that the token names.
func (c *Client) Device() wire.ID { return c.driver.device }

// call runs fn on the core's goroutine; false if it has ended.
func (c *Client) call(fn func(core *core)) bool {
	done := make(chan struct{})
	select {
	case c.driver.calls <- func() { fn(c.driver.core); close(done) }:
		<-done
		return true
	case <-c.driver.done:
		return false
	}
}

// inspect runs fn, which only reads the core, even after the end.
func (c *Client) inspect(fn func(core *core)) {
	if !c.call(fn) {
		fn(c.driver.core)
	}
}

// closedError is what a call gets that came after the end.
func (c *Client) closedError() error {
	var err error
	c.inspect(func(core *core) { err = core.endError() })
	return err
}

// Send queues a message and waits until the server has it. When ctx ends first, the
// message stays queued, and the error matches ErrUnfinished and ctx's error.
func (c *Client) Send(ctx context.Context, ref wire.Ref, content wire.Content) (Sent, error) {
	p, err := c.Queue(ref, content)
	if err != nil {
		return Sent{}, err
	}
	return p.wait(ctx)
}

// Queue puts a message into the outbox. When it returns, the outbox's store has it, so
// that it will be sent, once, whatever happens to the connection. The content must not be
// changed afterwards.
func (c *Client) Queue(ref wire.Ref, content wire.Content) (*Pending, error) {
	if !ref.Valid() {
		return nil, fmt.Errorf("%w: %d names no conversation", ErrRequest, ref)
	}
	if len(content.Bytes) == 0 {
		return nil, fmt.Errorf("%w: an empty message", ErrRequest)
	}
	if err := checkContent(content); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return c.enqueue(newPending(ref, content))
}

// enqueue waits until the outbox's store has a message.
func (c *Client) enqueue(p *Pending) (*Pending, error) {
	var err error
	if !c.call(func(core *core) { err = core.queue(p) }) {
		return nil, c.closedError()
	}
	if err != nil {
		return nil, err
	}
	<-p.kept
	if !p.stored {
		_, err := p.Result()
		return nil, err
	}
	return p, nil
}

// checkContent refuses what a server would end the session for.
func checkContent(content wire.Content) error {
	if err := content.Check(); err != nil {
		return err
	}
	block, _, err := content.Body()
	if err != nil {
		return err
	}
	return wire.Extensions(block, func(tag wire.Tag, value []byte) error {
		if tag == wire.TagClass && len(value) > 0 && value[0] == wire.ClassEvent {
			return fmt.Errorf("%w: an event is for Change", wire.ErrExtension)
		}
		if tag >= wire.TagServerMin && tag <= wire.TagServerMax {
			return fmt.Errorf("%w: tag %d is the server's", wire.ErrExtension, tag)
		}
		return nil
	})
}

// Restored are the sends that the outbox still held from an earlier process, those of
// each conversation in order. They are being sent.
func (c *Client) Restored() []*Pending {
	var pending []*Pending
	c.inspect(func(core *core) { pending = slices.Clone(core.restored) })
	return pending
}

// Flush waits until every send that is queued now has its outcome.
func (c *Client) Flush(ctx context.Context) error {
	var waiting []*Pending
	if !c.call(func(core *core) { waiting = core.waitingSends() }) {
		return c.closedError()
	}
	for _, p := range waiting {
		select {
		case <-p.Done():
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrUnfinished, ctx.Err())
		}
	}
	return nil
}

// Events is what happens, in order; it is closed when the client ends. The client does
// not wait for its consumer and does not grow for it: when more than EventMessagesMax
// messages wait, it drops what comes, remembers how far each conversation reaches, and
// reads the dropped messages from history as the consumer makes room. Nothing is left
// out; only typing is, and states that newer ones have replaced.
func (c *Client) Events() <-chan Event { return c.driver.events }

// Conversations is the list as far as it is known, the latest activity first. Counts of
// unread messages are exact after a sync, and an upper bound while messages are missing.
// Previews are shared and must not be changed.
func (c *Client) Conversations() []wire.ConversationState {
	var states []wire.ConversationState
	c.inspect(func(core *core) {
		for _, v := range core.conversations {
			if v.listed {
				states = append(states, v.state)
			}
		}
	})
	slices.SortFunc(states, func(a, b wire.ConversationState) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.Ref, b.Ref))
	})
	return states
}

// request waits for the answer to a request.
func (c *Client) request(ctx context.Context, r *request) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r.done = make(chan struct{})
	if !c.call(func(core *core) { core.ask(r) }) {
		return c.closedError()
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		c.call(func(core *core) { core.cancel(r) })
		return ctx.Err()
	}
}

// History reads a page of messages. Its Correlation is not used.
func (c *Client) History(ctx context.Context, h wire.History) (wire.Page, error) {
	if !h.Ref.Valid() || h.Mode > wire.HistoryAround || h.Sequence > wire.NumberMax || h.Limit > wire.HistoryMessagesMax {
		return wire.Page{}, fmt.Errorf("%w: %+v", ErrRequest, h)
	}
	r := &request{kind: requestHistory, history: h}
	if err := c.request(ctx, r); err != nil {
		return wire.Page{}, err
	}
	return r.page, nil
}

// Delivered moves this user's delivered cursor; it never moves back. Only a program that
// sets Options.ManualDelivered needs it.
func (c *Client) Delivered(ref wire.Ref, sequence uint64) error {
	return c.cursor(ref, wire.Delivered, sequence)
}

// Read moves this user's read cursor, and the delivered one with it; neither moves back.
func (c *Client) Read(ref wire.Ref, sequence uint64) error {
	return c.cursor(ref, wire.Read, sequence)
}

func (c *Client) cursor(ref wire.Ref, kind wire.CursorKind, sequence uint64) error {
	if !ref.Valid() || sequence > wire.NumberMax>>2 {
		return fmt.Errorf("%w: conversation %d, sequence %d", ErrRequest, ref, sequence)
	}
	var err error
	if !c.call(func(core *core) { err = core.moveCursor(ref, kind, sequence) }) {
		return c.closedError()
	}
	return err
}

// Typing tells the conversation that this user is writing. Call it at each key: few
// calls cause a frame, and none while there is no connection.
func (c *Client) Typing(ref wire.Ref) error {
	if !ref.Valid() {
		return fmt.Errorf("%w: %d names no conversation", ErrRequest, ref)
	}
	if !c.call(func(core *core) { core.tellTyping(core.now, ref) }) {
		return c.closedError()
	}
	return nil
}

// Users looks up identifiers; those that do not exist are left out.
func (c *Client) Users(ctx context.Context, ids ...wire.ID) ([]wire.User, error) {
	var users []wire.User
	for part := range slices.Chunk(ids, wire.UsersMax) {
		r := &request{kind: requestUsers}
		for _, id := range part {
			if !id.Valid() {
				return nil, fmt.Errorf("%w: %w: %d", ErrRequest, wire.ErrBadID, id)
			}
			r.queries = append(r.queries, wire.UserQuery{ID: id})
		}
		if err := c.request(ctx, r); err != nil {
			return nil, err
		}
		users = append(users, r.users...)
	}
	return users, nil
}

// Resolve looks up names; those that do not exist are left out.
func (c *Client) Resolve(ctx context.Context, names ...string) ([]wire.User, error) {
	var users []wire.User
	for part := range slices.Chunk(names, wire.UsersMax) {
		for _, name := range part {
			if name == "" || len(name) > wire.NameBytesMax {
				return nil, fmt.Errorf("%w: a name of %d bytes", ErrRequest, len(name))
			}
		}
		r := &request{kind: requestResolve, names: part}
		if err := c.request(ctx, r); err != nil {
			return nil, err
		}
		users = append(users, r.users...)
	}
	return users, nil
}

// Err is why the client ended; nil while it runs and after Close.
func (c *Client) Err() error {
	var err error
	c.inspect(func(core *core) { err = core.ended })
	return err
}

// Close ends the client and waits for all that it started. Sends without an outcome end
// with ErrClosed; a durable outbox keeps them for the next Open.
func (c *Client) Close() error {
	c.once.Do(func() { close(c.driver.closing) })
	<-c.driver.stopped
	return nil
}
