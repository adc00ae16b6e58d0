//go:build linux

package load

import (
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"github.com/gobwas/ws"

	"parley/wire"
)

// fake is a server of direct conversations in memory, with faults to order. A token is the
// user's number in decimal.
type fake struct {
	listener net.Listener

	mu            sync.Mutex
	sessions      map[wire.ID]*fakeSession
	conversations map[wire.Conversation]*fakeConversation
	group         fakeGroup
	connections   sync.WaitGroup

	loses     uint64 // the push of this sequence does not come
	repeats   uint64 // this sequence is pushed twice
	forgets   bool   // receipts after the first go back to the beginning
	heartbeat uint64 // seconds; 0: 240
	pings     int
	cursors   int
}

type fakeConversation struct {
	messages  []wire.PageMessage // authors are set
	delivered map[wire.ID]uint64
	counters  map[[2]uint64]uint64 // of an author's outbox: the last one
	answers   map[[3]uint64]uint64
}

type fakeSession struct {
	server *fake
	conn   net.Conn
	user   wire.ID
	epoch  uint64
}

func startFake(t *testing.T) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fake{listener: l, sessions: map[wire.ID]*fakeSession{}, conversations: map[wire.Conversation]*fakeConversation{}}
	s.connections.Add(1)
	go s.accept()
	t.Cleanup(func() {
		l.Close()
		s.drop()
		s.connections.Wait()
	})
	return s
}

func (s *fake) target() Target {
	return Target{Address: netip.MustParseAddrPort(s.listener.Addr().String()), Path: "/v1/socket"}
}

// drop cuts every session, as a killed server does.
func (s *fake) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, session := range s.sessions {
		session.conn.Close()
	}
	clear(s.sessions)
}

func (s *fake) accept() {
	defer s.connections.Done()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.connections.Add(1)
		go func() {
			defer s.connections.Done()
			defer c.Close()
			s.serve(c)
		}()
	}
}

func (s *fake) serve(c net.Conn) {
	u := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == wire.Subprotocol }}
	if _, err := u.Upgrade(c); err != nil {
		return
	}
	session := &fakeSession{server: s, conn: c}
	for {
		h, err := ws.ReadHeader(c)
		if err != nil || h.OpCode != ws.OpBinary || !h.Masked {
			return
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(c, payload); err != nil {
			return
		}
		ws.Cipher(payload, h.Mask, 0)
		s.mu.Lock()
		for len(payload) > 0 {
			f, rest, err := wire.NextFrame(payload)
			if err != nil {
				break
			}
			payload = rest
			session.frame(f)
		}
		s.mu.Unlock()
	}
}

func (c *fakeSession) write(frames []byte) {
	// An error is the end of the connection, which its reader sees, too.
	_ = ws.WriteFrame(c.conn, ws.NewBinaryFrame(frames))
}

func (c *fakeSession) frame(f wire.Frame) {
	switch f.Type {
	case wire.TypeHello:
		c.hello(f)
	case wire.TypePing:
		c.server.pings++
		c.write(wire.AppendPong(nil))
	case wire.TypeSync:
		c.sync(f)
	case wire.TypeGroup:
		c.change(f)
	case wire.TypeSend:
		c.send(f)
	case wire.TypeCursor:
		c.cursor(f)
	case wire.TypeHistory:
		c.history(f)
	}
}

func (c *fakeSession) hello(f wire.Frame) {
	h, err := wire.ParseHello(f)
	n, numberErr := strconv.ParseUint(string(h.Credential), 10, 48)
	if err != nil || numberErr != nil {
		_ = ws.WriteFrame(c.conn, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(wire.CodeUnauthenticated.CloseCode()), "")))
		c.conn.Close()
		return
	}
	c.user, c.epoch = wire.ID(n), h.OutboxEpoch
	c.server.sessions[c.user] = c
	heartbeat := c.server.heartbeat
	if heartbeat == 0 {
		heartbeat = 240
	}
	c.write(wire.AppendWelcome(nil, &wire.Welcome{User: c.user, Device: 1, HeartbeatSeconds: heartbeat, TicketSeconds: 60, Ticket: h.Credential}))
}

func (s *fake) conversation(key wire.Conversation) *fakeConversation {
	c := s.conversations[key]
	if c == nil {
		c = &fakeConversation{delivered: map[wire.ID]uint64{}, counters: map[[2]uint64]uint64{}, answers: map[[3]uint64]uint64{}}
		s.conversations[key] = c
	}
	return c
}

// sync answers with everything at first, and with nothing once there is a token.
func (c *fakeSession) sync(f wire.Frame) {
	q, err := wire.ParseSync(f)
	if err != nil {
		return
	}
	answer := wire.Conversations{Correlation: q.Correlation, Token: []byte("token")}
	for key, conversation := range c.server.conversations {
		if !key.Member(c.user) || len(q.Token) > 0 {
			continue
		}
		head := uint64(len(conversation.messages))
		answer.Items = append(answer.Items, wire.ConversationState{Ref: key.Ref(c.user), Head: head, Revision: head,
			Delivered: conversation.delivered[c.user], OtherDelivered: conversation.delivered[key.Peer(c.user)]})
	}
	c.write(wire.AppendConversations(nil, &answer))
}

func (c *fakeSession) send(f wire.Frame) {
	m, err := wire.ParseSend(f)
	if err != nil {
		return
	}
	key := m.Ref.Conversation(c.user)
	if key.Kind == wire.Group {
		c.say(m.Correlation, m.Content)
		return
	}
	conversation := c.server.conversation(key)
	outbox := [2]uint64{uint64(c.user), c.epoch}
	answered := [3]uint64{outbox[0], outbox[1], m.Counter}
	if sequence := conversation.answers[answered]; sequence > 0 {
		c.write(wire.AppendSent(nil, &wire.Sent{Correlation: m.Correlation, Sequence: sequence}))
		return
	}
	if m.Counter != conversation.counters[outbox]+1 {
		c.write(wire.AppendError(nil, &wire.Error{Correlation: m.Correlation, Code: wire.CodeOutOfOrder}))
		return
	}
	conversation.counters[outbox] = m.Counter
	sequence := uint64(len(conversation.messages)) + 1
	conversation.answers[answered] = sequence
	text := append([]byte(nil), m.Content.Bytes...)
	conversation.messages = append(conversation.messages, wire.PageMessage{Sequence: sequence, Revision: sequence, Author: c.user, Content: wire.Content{Bytes: text}})
	c.write(wire.AppendSent(nil, &wire.Sent{Correlation: m.Correlation, Sequence: sequence}))
	peer := c.server.sessions[key.Peer(c.user)]
	if peer == nil || sequence == c.server.loses {
		return
	}
	push := wire.AppendMessage(nil, &wire.Message{Ref: key.Ref(peer.user), Sequence: sequence, Revision: sequence, Content: m.Content})
	peer.write(push)
	if sequence == c.server.repeats {
		peer.write(push)
	}
}

func (c *fakeSession) cursor(f wire.Frame) {
	q, err := wire.ParseCursor(f)
	if err != nil {
		return
	}
	key := q.Ref.Conversation(c.user)
	if key.Kind == wire.Group {
		c.server.cursors++
		return
	}
	conversation := c.server.conversation(key)
	conversation.delivered[c.user] = max(q.Position, conversation.delivered[c.user])
	position := conversation.delivered[c.user]
	if c.server.cursors++; c.server.forgets && c.server.cursors > 1 {
		position = 0
	}
	if peer := c.server.sessions[key.Peer(c.user)]; peer != nil {
		peer.write(wire.AppendReceipt(nil, &wire.Receipt{Ref: key.Ref(peer.user), Position: position, Kind: wire.Delivered}))
	}
}

func (c *fakeSession) history(f wire.Frame) {
	q, err := wire.ParseHistory(f)
	if err != nil {
		return
	}
	conversation := c.server.conversation(q.Ref.Conversation(c.user))
	page := wire.Page{Correlation: q.Correlation, Ref: q.Ref}
	if n := len(conversation.messages); n > 0 {
		page.Head = conversation.messages[n-1].Sequence
	}
	for _, m := range conversation.messages {
		if m.Sequence <= q.Sequence {
			continue
		}
		if m.Author != c.user {
			m.Author = 0
		}
		if page.Messages = append(page.Messages, m); len(page.Messages) == 100 {
			break
		}
	}
	if n := len(page.Messages); n > 0 && page.Messages[n-1].Sequence < page.Head {
		page.Flags = wire.PageMoreAfter
	}
	c.write(wire.AppendPage(nil, &page))
}
