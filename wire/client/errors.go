package client

import (
	"errors"

	"parley/wire"
)

// What the server refuses comes as a *wire.Error, with its code. These are the client's
// own; errors.Is finds them.
var (
	// ErrClosed says that the client was closed, or ended for the reason that is wrapped
	// beside it. A send that ends with it may still have reached the server.
	ErrClosed = errors.New("client: closed")
	// ErrAddress says that Options.Address is not a ws:// or wss:// address.
	ErrAddress = errors.New("client: bad address")
	// ErrOptions says that a field of Options has no meaning.
	ErrOptions = errors.New("client: bad options")
	// ErrRequest says that an argument cannot be put on the wire; nothing was sent.
	ErrRequest = errors.New("client: bad request")
	// ErrOutboxFull says that too many sends wait for the server: try again when some are
	// acknowledged. Nothing was queued.
	ErrOutboxFull = errors.New("client: outbox is full")
	// ErrOutboxWrite says that the outbox's store failed. Whether the send is kept, and goes
	// out after a restart, is unknown; this client sends nothing more.
	ErrOutboxWrite = errors.New("client: outbox cannot be written")
	// ErrOutboxDamaged says that an outbox's file holds bytes that were never written. A
	// write that was cut short by a crash is not damage.
	ErrOutboxDamaged = errors.New("client: outbox is damaged")
	// ErrOutboxInUse says that another client has the outbox's file open.
	ErrOutboxInUse = errors.New("client: outbox is in use")
	// ErrUnknownOutcome says that the server no longer knows whether it accepted a send, and
	// that the conversation's recent history does not show it. It may have been delivered:
	// never take it for failed.
	ErrUnknownOutcome = errors.New("client: outcome of the send is unknown")
	// ErrUnfinished says that a context ended before the send did. It stays in the outbox
	// and will be sent.
	ErrUnfinished = errors.New("client: send is still queued")
	// ErrIdentity says that Options.Token, or the outbox, belongs to another user or device
	// than before. Nothing was sent.
	ErrIdentity = errors.New("client: another user or device")
	// ErrOutdated says that the server sent something that this program must understand and
	// does not: it needs an update.
	ErrOutdated = errors.New("client: the server speaks a newer protocol")
	// ErrProtocol says that the server broke the protocol.
	ErrProtocol = errors.New("client: protocol violation by the server")
	// ErrUnanswered says that a connection was given up because nothing came from the server
	// for too long.
	ErrUnanswered = errors.New("client: the server does not answer")
	// ErrRefused says that the server's address answered, but not with a WebSocket of
	// Parley's protocol.
	ErrRefused = errors.New("client: no Parley server at this address")
)

// permanent reports whether the server will answer the same again: log out, or do
// something about the request first.
func permanent(err error) bool {
	var refused *wire.Error
	if !errors.As(err, &refused) {
		return false
	}
	class := refused.Code.Class()
	return class == wire.ClassPermanent || class == wire.ClassLogOut
}
