package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"parley/engine"
	"parley/wire"
	"parley/wire/client"
)

// patience bounds every wait of these tests; it is never what they measure.
const patience = 30 * time.Second

// A server is a real node on a loopback port.
type server struct {
	node    *engine.Node
	data    string
	address string
	ids     map[string]wire.ID
}

// startServer opens a node with two users, alice and bob.
func startServer(data, listen string) (*server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	node, err := engine.Open(ctx, engine.Config{Data: data, Listen: listen, Shards: 2, DiskReserveBytes: -1,
		DrainSpread: 200 * time.Millisecond, Fatal: func(err error) { fmt.Fprintln(os.Stderr, "fatal:", err) }})
	if err != nil {
		return nil, err
	}
	s := &server{node: node, data: data, address: node.Address().String(), ids: map[string]wire.ID{}}
	for _, name := range []string{"alice", "bob"} {
		if s.ids[name], err = node.CreateUser(ctx, name, nil); err != nil {
			return nil, errors.Join(err, node.Close())
		}
	}
	return s, nil
}

// options are those of a device of a user.
func (s *server) options(name string, device wire.ID) client.Options {
	return client.Options{Address: "ws://" + s.address, Token: func(ctx context.Context) (string, error) {
		token, err := s.node.Token(ctx, name, device, time.Hour)
		return token.Text, err
	}}
}

func start(t *testing.T) *server {
	t.Helper()
	s, err := startServer(t.TempDir(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.node.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func open(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// await takes events until one satisfies the test.
func await[E client.Event](t *testing.T, c *client.Client, want func(E) bool) E {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case e, ok := <-c.Events():
			if !ok {
				t.Fatalf("the client has ended: %v", c.Err())
			}
			if e, ok := e.(E); ok && want(e) {
				return e
			}
		case <-late:
			var none E
			t.Fatalf("no %T came", none)
		}
	}
}

func anyMessage(*client.MessageEvent) bool { return true }

func receiptOf(kind wire.CursorKind, position uint64) func(*client.ReceiptEvent) bool {
	return func(e *client.ReceiptEvent) bool { return e.Kind == kind && e.Position >= position }
}

func live(e *client.ConnectionEvent) bool { return e.State == client.Live }

func TestServerTwoUsersConverse(t *testing.T) {
	s := start(t)
	a, b := open(t, s.options("alice", 1)), open(t, s.options("bob", 2))
	toBob, toAlice := wire.DirectRef(s.ids["bob"]), wire.DirectRef(s.ids["alice"])
	sent, err := a.Send(t.Context(), toBob, wire.Text("hello"))
	if err != nil || sent.Sequence != 1 {
		t.Fatal(sent, err)
	}
	e := await(t, b, anyMessage)
	if e.Ref != toAlice || e.Sequence != 1 || e.Author != a.User() || string(e.Content.Bytes) != "hello" || e.Time != sent.Time {
		t.Errorf("%+v", e)
	}
	await(t, a, receiptOf(wire.Delivered, 1))
	if err := b.Read(toAlice, 1); err != nil {
		t.Error(err)
	}
	await(t, a, receiptOf(wire.Read, 1))
	if err := a.Typing(toBob); err != nil {
		t.Error(err)
	}
	await(t, b, func(e *client.TypingEvent) bool { return e.Author == a.User() })
	users, err := a.Users(t.Context(), s.ids["bob"], 12345)
	if err != nil || len(users) != 1 || users[0].Name != "bob" {
		t.Error(users, err)
	}
	_, err = a.Send(t.Context(), wire.DirectRef(12345), wire.Text("anybody?"))
	var refused *wire.Error
	if !errors.As(err, &refused) || refused.Code != wire.CodeUnknownUser {
		t.Error(err)
	}
}

func TestServerDevicesOfOneUser(t *testing.T) {
	s := start(t)
	phone, laptop, b := open(t, s.options("alice", 1)), open(t, s.options("alice", 2)), open(t, s.options("bob", 3))
	toBob, toAlice := wire.DirectRef(s.ids["bob"]), wire.DirectRef(s.ids["alice"])
	await(t, laptop, live)
	if _, err := phone.Send(t.Context(), toBob, wire.Text("from my phone")); err != nil {
		t.Fatal(err)
	}
	if e := await(t, laptop, anyMessage); e.Author != phone.User() || e.Sent || e.Ref != toBob {
		t.Errorf("the echo: %+v", e)
	}
	if _, err := b.Send(t.Context(), toAlice, wire.Text("answer")); err != nil {
		t.Fatal(err)
	}
	await(t, phone, func(e *client.MessageEvent) bool { return e.Sequence == 2 })
	if err := phone.Read(toBob, 2); err != nil {
		t.Error(err)
	}
	await(t, laptop, receiptOf(wire.OwnRead, 2))

	second := open(t, s.options("alice", 1))
	e := await(t, phone, func(e *client.ConnectionEvent) bool { return e.State == client.Closed })
	var refused *wire.Error
	if !errors.As(e.Err, &refused) || refused.Code != wire.CodeReplaced {
		t.Errorf("the first session of the device ended with %v", e.Err)
	}
	if _, err := second.Send(t.Context(), toBob, wire.Text("it is me now")); err != nil {
		t.Error(err)
	}
}

// shakyDial breaks each connection after a random number of bytes, until it is told to
// stop.
type shaky struct {
	mutex  sync.Mutex
	random *rand.Rand
	calm   bool
	cuts   int
}

func (s *shaky) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err != nil || s.calm {
		return conn, err
	}
	s.cuts++
	return &shakyConn{Conn: conn, left: 600 + s.random.IntN(6000)}, nil
}

type shakyConn struct {
	net.Conn
	mutex sync.Mutex
	left  int
}

func (c *shakyConn) pass(n int) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.left -= n
	if c.left < 0 {
		c.Conn.Close()
	}
	return c.left >= 0
}

func (c *shakyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && !c.pass(n) {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *shakyConn) Write(p []byte) (int, error) {
	if !c.pass(len(p)) {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// Connections that break all the time neither lose, double nor reorder a message of a
// real server.
func TestServerOverShakyConnections(t *testing.T) {
	s := start(t)
	net := &shaky{random: rand.New(rand.NewPCG(1, 1))}
	const count = 150
	var wait sync.WaitGroup
	for i, name := range []string{"alice", "bob"} {
		peer := []string{"bob", "alice"}[i]
		o := s.options(name, wire.ID(i+1))
		o.Dial, o.Begin = net.dial, client.BeginRead
		c := open(t, o)
		wait.Go(func() {
			for k := range count {
				if _, err := c.Queue(wire.DirectRef(s.ids[peer]), wire.Text(fmt.Sprintf("%s %d", name, k))); err != nil {
					t.Error(err)
				}
			}
		})
		wait.Go(func() { takeAll(t, c, name, peer, count) })
	}
	wait.Wait()
	if net.cuts < 4 {
		t.Errorf("only %d connections: nothing was proved", net.cuts)
	}
}

// takeAll takes the messages of both until all are there.
func takeAll(t *testing.T, c *client.Client, name, peer string, count int) {
	nextOf := map[string]int{}
	for sequence := uint64(1); sequence <= uint64(2*count); sequence++ {
		e, ok := takeMessage(t, c)
		if !ok {
			return
		}
		author := peer
		if e.Author == c.User() {
			author = name
		}
		want := fmt.Sprintf("%s %d", author, nextOf[author])
		if nextOf[author]++; e.Sequence != sequence || string(e.Content.Bytes) != want {
			t.Errorf("%s: message %d is %q, want %d, %q", name, e.Sequence, e.Content.Bytes, sequence, want)
			return
		}
	}
}

func takeMessage(t *testing.T, c *client.Client) (*client.MessageEvent, bool) {
	late := time.After(patience)
	for {
		select {
		case e := <-c.Events():
			switch e := e.(type) {
			case *client.MessageEvent:
				return e, true
			case nil:
				t.Errorf("the client has ended: %v", c.Err())
				return nil, false
			}
		case <-late:
			t.Error("no message came")
			return nil, false
		}
	}
}

// A server that stops and starts again is met again by itself: what was queued meanwhile
// is sent, what was said is there.
func TestServerStopsAndStarts(t *testing.T) {
	s := start(t)
	a, b := open(t, s.options("alice", 1)), open(t, s.options("bob", 2))
	toBob, toAlice := wire.DirectRef(s.ids["bob"]), wire.DirectRef(s.ids["alice"])
	if _, err := a.Send(t.Context(), toBob, wire.Text("before")); err != nil {
		t.Fatal(err)
	}
	await(t, b, anyMessage)
	if err := s.node.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.node.Close(); err != nil {
		t.Error(err)
	}
	p, err := a.Queue(toBob, wire.Text("while you were out"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.node, err = engine.Open(ctx, engine.Config{Data: s.data, Listen: s.address, DiskReserveBytes: -1, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		t.Fatal("the queued message was not sent")
	}
	if sent, err := p.Result(); err != nil || sent.Sequence != 2 {
		t.Errorf("%+v %v", sent, err)
	}
	if e := await(t, b, anyMessage); e.Sequence != 2 || e.Ref != toAlice {
		t.Errorf("%+v", e)
	}
	await(t, a, receiptOf(wire.Delivered, 2))
}

func TestServerHistoryInAllDirections(t *testing.T) {
	s := start(t)
	a := open(t, s.options("alice", 1))
	toBob := wire.DirectRef(s.ids["bob"])
	for i := range 30 {
		if _, err := a.Queue(toBob, wire.Text(fmt.Sprint(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		h           wire.History
		first, last uint64
	}{
		{wire.History{Limit: 10}, 1, 10},
		{wire.History{Sequence: 25, Limit: 10}, 26, 30},
		{wire.History{Mode: wire.HistoryBackward, Limit: 10}, 21, 30},
		{wire.History{Mode: wire.HistoryBackward, Sequence: 5, Limit: 10}, 1, 4},
		{wire.History{Mode: wire.HistoryAround, Sequence: 15, Limit: 5}, 13, 17},
	} {
		test.h.Ref = toBob
		page, err := a.History(t.Context(), test.h)
		if err != nil || len(page.Messages) == 0 || page.Head != 30 {
			t.Errorf("%+v: %+v %v", test.h, page, err)
			continue
		}
		if first, last := page.Messages[0].Sequence, page.Messages[len(page.Messages)-1].Sequence; first != test.first || last != test.last {
			t.Errorf("%+v: %d to %d, want %d to %d", test.h, first, last, test.first, test.last)
		}
	}
}
