package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"parley/engine/admin"
	"parley/engine/shard"
	"parley/wire"
	"parley/wire/wiretest"
)

// patience bounds every wait of a test; it is never what a test measures.
const patience = 3 * time.Minute

// hurried are intervals of nodes that a test waits for.
var hurried = intervals{host: 100 * time.Millisecond, walk: 20 * time.Millisecond, plan: 100 * time.Millisecond, announce: 200 * time.Millisecond}

// retryPause is the pause before a test does again what was refused for the moment.
const retryPause = 20 * time.Millisecond

// start opens a node on a free port, with the rest as given.
func start(t *testing.T, c Config) *Node {
	t.Helper()
	if c.Data == "" {
		c.Data = t.TempDir()
	}
	c.Listen, c.Admin = "127.0.0.1:0", "127.0.0.1:0"
	if c.Shards == 0 {
		c.Shards = 4
	}
	c.DiskReserveBytes, c.intervals = -1, hurried
	c.Fatal = func(err error) { t.Errorf("fatal: %v", err) }
	if testing.Verbose() {
		c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// user makes an account without a password, when its shard is led.
func user(t *testing.T, n *Node, name string) wire.ID {
	t.Helper()
	var id wire.ID
	tries := 0
	untilAvailable(t, func() (err error) {
		id, err = n.CreateUser(context.Background(), name, nil)
		if tries++; tries > 1 && errors.Is(err, admin.ErrNameTaken) { // by a try whose answer did not come
			u, _, lookup := n.userNamed(context.Background(), name)
			id, err = u.ID, lookup
		}
		return err
	})
	return id
}

// token signs a token for a device of a user, when the user's shard is led.
func token(t *testing.T, n *Node, name string, device wire.ID) []byte {
	t.Helper()
	var token admin.Token
	untilAvailable(t, func() (err error) {
		token, err = n.Token(context.Background(), name, device, time.Hour)
		return err
	})
	return []byte(token.Text)
}

// untilAvailable does what an operator does, again and again while it is said that it cannot
// be done now: the leader of a shard may have changed just then.
func untilAvailable(t *testing.T, do func() error) {
	t.Helper()
	waitUntil(t, func() bool {
		err := do()
		if err != nil && !errors.Is(err, admin.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// A raw is a client that says exactly what a test wants, wrong things included.
type raw struct {
	t *testing.T
	*wiretest.Client
}

// dial opens a WebSocket.
func dial(t *testing.T, n *Node) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", n.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r := &raw{t, wiretest.New(conn)}
	if err := r.Upgrade(); err != nil {
		t.Fatal(err)
	}
	return r
}

// hello opens a session and waits for its WELCOME.
func hello(t *testing.T, n *Node, name string, device wire.ID, epoch uint64) *raw {
	t.Helper()
	r := dial(t, n)
	r.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version, OutboxEpoch: epoch, Credential: token(t, n, name, device)}))
	r.want(wire.TypeWelcome)
	return r
}

// live opens a session that is pushed to, and returns the answer to its SYNC.
func live(t *testing.T, n *Node, name string, device wire.ID, epoch uint64) (*raw, wire.Conversations) {
	t.Helper()
	r := hello(t, n, name, device, epoch)
	return r, r.sync(nil)
}

func (r *raw) sync(token []byte) wire.Conversations {
	r.t.Helper()
	c, err := wire.ParseConversations(r.ask(wire.AppendSync(nil, &wire.Sync{Correlation: 1, Token: token}), wire.TypeConversations))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// ask sends a request until it is answered, however often it is refused for the moment.
func (r *raw) ask(request []byte, answer wire.Type) wire.Frame {
	r.t.Helper()
	for {
		r.send(request)
		f := r.until(answer, wire.TypeError)
		if f.Type == answer {
			return f
		}
		if e, err := wire.ParseError(f); err != nil || e.Code.Class() > 2 {
			r.t.Fatalf("waiting for %v: refused: %+v, %v", answer, e, err)
		}
		time.Sleep(retryPause)
	}
}

// hangUp ends the connection: a node that closes does not wait for its client then.
func (r *raw) hangUp() { r.Close() }

// Next reads the next frame, for as long as a test may wait.
func (r *raw) Next() (wire.Frame, error) {
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return wire.Frame{}, err
	}
	return r.Client.Next()
}

// send writes one binary WebSocket message.
func (r *raw) send(frames []byte) { r.t.Helper(); r.write(wiretest.Message(wiretest.Binary, frames)) }

func (r *raw) write(b []byte) {
	r.t.Helper()
	if _, err := r.Write(b); err != nil {
		r.t.Logf("write: %v", err)
	}
}

// want reads the next frame, which must be of a type.
func (r *raw) want(typ wire.Type) wire.Frame {
	r.t.Helper()
	f, err := r.Next()
	if err != nil {
		r.t.Fatalf("waiting for %v: %v (close code %d)", typ, err, r.Code)
	}
	if f.Type != typ {
		detail := ""
		if f.Type == wire.TypeError {
			e, _ := wire.ParseError(f)
			detail = e.Error()
		}
		r.t.Fatalf("got %v %s, want %v", f.Type, detail, typ)
	}
	return f
}

// until skips frames up to one of some types.
func (r *raw) until(types ...wire.Type) wire.Frame {
	r.t.Helper()
	for {
		f, err := r.Next()
		if err != nil {
			r.t.Fatalf("waiting for %v: %v (close code %d)", types, err, r.Code)
		}
		if slices.Contains(types, f.Type) {
			return f
		}
	}
}

func (r *raw) wantSent() wire.Sent {
	r.t.Helper()
	s, err := wire.ParseSent(r.want(wire.TypeSent))
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *raw) wantMessage() wire.Message {
	r.t.Helper()
	m, err := wire.ParseMessage(r.want(wire.TypeMessage))
	if err != nil {
		r.t.Fatal(err)
	}
	m.Content.Bytes = bytes.Clone(m.Content.Bytes)
	return m
}

func (r *raw) wantError(code wire.Code) *wire.Error {
	r.t.Helper()
	e, err := wire.ParseError(r.want(wire.TypeError))
	if err != nil {
		r.t.Fatal(err)
	}
	if e.Code != code {
		r.t.Fatalf("got %v, want %v", e, code)
	}
	return e
}

// wantClose reads to the end of the session, which must come with a WebSocket close code.
func (r *raw) wantClose(code uint16) {
	r.t.Helper()
	for {
		_, err := r.Next()
		if err == nil {
			continue
		}
		if r.Code != code {
			r.t.Fatalf("close code %d (%v), want %d", r.Code, err, code)
		}
		return
	}
}

// text sends a text under a counter, with the counter as correlation.
func (r *raw) text(ref wire.Ref, counter uint64, text string) {
	r.t.Helper()
	r.send(wire.AppendSend(nil, &wire.Send{Correlation: counter, Ref: ref, Counter: counter, Content: wire.Text(text)}))
}

func (r *raw) cursor(ref wire.Ref, kind wire.CursorKind, position uint64) {
	r.t.Helper()
	r.send(wire.AppendCursor(nil, &wire.Cursor{Ref: ref, Kind: kind, Position: position}))
}

// history reads a page.
func (r *raw) history(h wire.History) wire.Page {
	r.t.Helper()
	p, err := wire.ParsePage(r.ask(wire.AppendHistory(nil, &h), wire.TypePage))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range p.Messages {
		p.Messages[i].Content.Bytes = bytes.Clone(p.Messages[i].Content.Bytes)
	}
	return p
}

// settled waits until a PING is answered: all that the client sent before was read.
func (r *raw) settled() {
	r.t.Helper()
	r.send(wire.AppendPing(nil))
	r.until(wire.TypePong)
}

func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	end, pause := time.Now().Add(patience), 100*time.Microsecond
	for !done() {
		if time.Now().After(end) {
			t.Fatal("it did not come to pass")
		}
		time.Sleep(pause)
		pause = min(2*pause, 10*time.Millisecond)
	}
}

// listed waits until a user's own list, at home, has that many conversations: the
// courier brings them after the first message was acknowledged.
func listed(t *testing.T, n *Node, user wire.ID, count int) {
	t.Helper()
	waitUntil(t, func() bool {
		rows := 0
		_, err := n.replicaOf(user.Slot()).Listed(t.Context(), user, 0, func(shard.Listed) { rows++ })
		return err == nil && rows == count
	})
}
