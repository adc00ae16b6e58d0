package client

import (
	"context"
	"errors"

	"parley/wire"
)

var errSkeleton = errors.New("client: not built yet")

// A Client is one device of one user. It keeps itself connected until it is closed or
// the server sends it away for good. Any goroutine may call its methods.
type Client struct{}

// Open connects and returns once the server has let the client in. Until then it tries
// again by itself; it returns an error when the server refuses for good, or with ctx's
// error and that of the last attempt when ctx ends. Afterwards the client reconnects by
// itself and ctx has no meaning for it.
func Open(ctx context.Context, o Options) (*Client, error) { return nil, errSkeleton }

// User is who this client speaks for.
func (c *Client) User() wire.ID { return 0 }

// Device is the device that the token names.
func (c *Client) Device() wire.ID { return 0 }

// Send queues a message and waits until the server has it. When ctx ends first, the
// message stays queued, and the error matches ErrUnfinished and ctx's error.
func (c *Client) Send(ctx context.Context, ref wire.Ref, content wire.Content) (Sent, error) {
	return Sent{}, errSkeleton
}

// Queue puts a message into the outbox. When it returns, the outbox's store has it, so
// that it will be sent, once, whatever happens to the connection. The content must not be
// changed afterwards.
func (c *Client) Queue(ref wire.Ref, content wire.Content) (*Pending, error) { return nil, errSkeleton }

// Restored are the sends that the outbox still held from an earlier process, in no
// particular order. They are being sent.
func (c *Client) Restored() []*Pending { return nil }

// Flush waits until every queued send has its outcome.
func (c *Client) Flush(ctx context.Context) error { return errSkeleton }

// Events is what happens, in order; it is closed when the client ends.
func (c *Client) Events() <-chan Event { return nil }

// Conversations is the list as far as it is known, the latest activity first.
func (c *Client) Conversations() []wire.ConversationState { return nil }

// History reads a page of messages.
func (c *Client) History(ctx context.Context, h wire.History) (wire.Page, error) {
	return wire.Page{}, errSkeleton
}

// Delivered moves this user's delivered cursor; it never moves back. Only a program that
// sets Options.ManualDelivered needs it.
func (c *Client) Delivered(ref wire.Ref, sequence uint64) error { return errSkeleton }

// Read moves this user's read cursor, and the delivered one with it; neither moves back.
func (c *Client) Read(ref wire.Ref, sequence uint64) error { return errSkeleton }

// Typing tells the conversation that this user is writing. Call it at each key: few
// calls cause a frame, and none while there is no connection.
func (c *Client) Typing(ref wire.Ref) error { return errSkeleton }

// Users looks up identifiers; those that do not exist are left out.
func (c *Client) Users(ctx context.Context, ids ...wire.ID) ([]wire.User, error) {
	return nil, errSkeleton
}

// Resolve looks up names; those that do not exist are left out.
func (c *Client) Resolve(ctx context.Context, names ...string) ([]wire.User, error) {
	return nil, errSkeleton
}

// Err is why the client ended; nil while it runs and after Close.
func (c *Client) Err() error { return nil }

// Close ends the client. Sends without an outcome end with ErrClosed; a durable outbox
// keeps them for the next Open.
func (c *Client) Close() error { return errSkeleton }
