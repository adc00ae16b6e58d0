package chat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/wire"
	"parley/wire/client"
)

// Errors that end a chat.
var (
	ErrUnknownUser = errors.New("there is no such user")
	ErrUnsent      = errors.New("left before everything had reached the server")
	ErrRefused     = errors.New("some messages were not sent")
	ErrSelf        = errors.New("nobody chats with oneself: choose another user")
)

// Limits and times of a chat.
const (
	// pendingMax bounds the messages on their way: beyond it the input waits. It is what
	// one conversation may have unacknowledged.
	pendingMax = wire.DedupWindow
	// historyDefault is how many messages a conversation is opened with, and /history gives.
	historyDefault = 20
	// requestTimeout bounds one question to the server.
	requestTimeout = 15 * time.Second
)

// A Client is what a chat needs of a *client.Client.
type Client interface {
	User() wire.ID
	Queue(ref wire.Ref, content wire.Content) (*client.Pending, error)
	Change(ref wire.Ref, event wire.Event) (*client.Pending, error)
	CreateGroup(ctx context.Context, title string, flags uint64, members ...wire.ID) (wire.Ref, error)
	Group(ctx context.Context, ref wire.Ref) (wire.GroupState, error)
	Members(ctx context.Context, q wire.Members) (wire.MemberList, error)
	Events() <-chan client.Event
	Conversations() []wire.ConversationState
	History(ctx context.Context, h wire.History) (wire.Page, error)
	Read(ref wire.Ref, sequence uint64) error
	Typing(ref wire.Ref) error
	Users(ctx context.Context, ids ...wire.ID) ([]wire.User, error)
	Resolve(ctx context.Context, names ...string) ([]wire.User, error)
	Err() error
}

// An Input is something that the user or the terminal did: bytes, none at the end of the
// input; or a new size.
type Input struct {
	Bytes         []byte
	Resized       bool
	Width, Height int
}

// A Config is one run of a chat.
type Config struct {
	Client Client
	View   View
	Input  <-chan Input
	With   string // the name of the other user; empty: chosen by /with
	// Until is the state that every message of our own must reach before the end of the
	// input ends the chat; None stays until the user leaves.
	Until Status
	// History is how many messages the conversation is opened with.
	History int
}

// A session is a running chat. All of it belongs to the goroutine in Run.
type session struct {
	Config
	ctx      context.Context
	self     wire.ID
	names    map[wire.ID]string
	titles   map[wire.Ref]string // of groups, where the list does not have them
	talks    map[wire.Ref]*talk
	current  *talk                  // nil until /with
	opening  string                 // the name that is being looked up; input waits
	backlog  []string               // lines that wait for it
	held     []*client.MessageEvent // messages that wait for it
	pending  int                    // messages without an outcome
	outcomes chan outcome           // of messages, from their own goroutines
	answers  chan func()            // of slow requests: what to do with them, here
	away     string                 // why there is no connection; empty: there is one
	writing  *time.Timer            // until when the other is taken to be writing
	isTyping bool                   // the other
	typist   string                 // who that is, in a group
	ended    bool                   // the input
	leaving  bool                   // the user wants to go, and messages are not sent yet
	failed   bool                   // a message was refused
	done     bool
	err      error
}

// A talk is one conversation.
type talk struct {
	ref             wire.Ref
	name            string  // of the other
	first, last     uint64  // shown, by sequence; 0: none
	delivered, read uint64  // the other's cursors
	open            []*Line // ours on the screen that the other has not read
	loading         bool
	waiting         []*client.MessageEvent // came while the history was being read
}

// An outcome is what became of a message of our own.
type outcome struct {
	talk *talk
	line *Line
	sent client.Sent
	err  error
}

// Run chats until the user leaves, the input ends, ctx ends or the server sends us away.
func Run(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{
		Config: c, ctx: ctx, self: c.Client.User(),
		names: map[wire.ID]string{}, titles: map[wire.Ref]string{}, talks: map[wire.Ref]*talk{},
		outcomes: make(chan outcome), answers: make(chan func()),
		writing: time.NewTimer(time.Hour),
	}
	defer s.writing.Stop()
	for _, state := range c.Client.Conversations() {
		s.cursors(state)
	}
	if c.With != "" {
		s.with(c.With, true)
	} else {
		s.notice("Choose whom to talk to with /with NAME; /list shows your conversations, /help the rest.")
	}
	for !s.done {
		s.step()
		s.checkEnd()
	}
	return s.err
}

// step waits for one thing to happen and does what follows.
func (s *session) step() {
	input := s.Input
	if s.pending >= pendingMax {
		input = nil
	}
	select {
	case <-s.ctx.Done():
		s.end(context.Cause(s.ctx))
	case e, ok := <-s.Client.Events():
		if !ok {
			s.end(s.Client.Err())
			return
		}
		s.event(e)
	case in := <-input:
		s.input(in)
	case o := <-s.outcomes:
		s.outcome(o)
	case do := <-s.answers:
		do()
	case <-s.writing.C:
		s.setTyping(false)
	}
}

func (s *session) end(err error) { s.done, s.err = true, err }

// checkEnd ends a chat whose input has ended once everything has come as far as it should.
func (s *session) checkEnd() {
	if s.leaving && !s.done && s.pending == 0 {
		s.end(nil)
	}
	if !s.ended || s.done || s.Until == None || s.opening != "" || s.pending > 0 {
		return
	}
	for _, t := range s.talks {
		for _, l := range t.open {
			if !l.Old && l.Status < s.Until {
				return
			}
		}
	}
	var err error
	if s.failed {
		err = ErrRefused
	}
	s.end(err)
}

func (s *session) notice(format string, args ...any) {
	s.View.Show(&Line{Time: time.Now(), Text: fmt.Sprintf(format, args...)})
}

// ask runs a question to the server beside the chat; then runs here with the answer.
func (s *session) ask(question func(ctx context.Context) error, then func(err error)) {
	go func() {
		ctx, cancel := context.WithTimeout(s.ctx, requestTimeout)
		defer cancel()
		err := question(ctx)
		select {
		case s.answers <- func() { then(err) }:
		case <-s.ctx.Done():
		}
	}()
}

func (s *session) input(in Input) {
	if in.Resized {
		s.View.Resize(in.Width, in.Height)
		return
	}
	for _, a := range s.View.Input(in.Bytes) {
		switch a.Kind {
		case Typed:
			s.typed()
		case Entered:
			s.entered(a.Text)
		case Left:
			s.leave()
		case Ended:
			s.ended = true
			s.Input = nil
		}
	}
}

// typed tells the other that something is being written; the client sends it now and then.
func (s *session) typed() {
	if s.current != nil && s.away == "" {
		// A lost TYPING is lost: it says nothing a moment later.
		_ = s.Client.Typing(s.current.ref)
	}
}

// leave ends the chat once everything has reached the server, and at the second attempt
// although it has not.
func (s *session) leave() {
	switch {
	case s.pending == 0:
		s.end(nil)
	case s.leaving:
		s.end(ErrUnsent)
	default:
		s.leaving = true
		s.showStatus()
	}
}

// send queues a message to the current conversation and shows it.
func (s *session) send(text string) {
	t := s.current
	if s.leaving { // not yet, then
		s.leaving = false
		s.showStatus()
	}
	l := &Line{Time: time.Now(), Author: s.names[s.self], Text: text, Status: Queued}
	s.View.Show(l)
	pending, err := s.Client.Queue(t.ref, wire.Text(text))
	if err != nil {
		s.fail(l, err)
		return
	}
	s.pending++
	t.open = append(t.open, l)
	go func() {
		<-pending.Done()
		sent, err := pending.Result()
		select {
		case s.outcomes <- outcome{t, l, sent, err}:
		case <-s.ctx.Done():
		}
	}()
}

func (s *session) outcome(o outcome) {
	s.pending--
	if o.err != nil {
		s.forget(o.talk, o.line)
		s.fail(o.line, o.err)
		return
	}
	o.line.Sequence, o.line.Time = o.sent.Sequence, o.sent.Time.Time().Local()
	o.line.Status = Sent
	s.View.Update(o.line)
	s.advance(o.talk)
}

func (s *session) fail(l *Line, err error) {
	s.failed = true
	l.Status = Failed
	s.View.Update(l)
	if errors.Is(err, client.ErrUnknownOutcome) {
		s.notice("It is unknown whether this message arrived: /history shows whether it did.")
		return
	}
	s.notice("Not sent: %v", err)
}

func (s *session) forget(t *talk, l *Line) {
	for i := range t.open {
		if t.open[i] == l {
			t.open = append(t.open[:i], t.open[i+1:]...)
			return
		}
	}
}

// advance moves the ticks of a conversation's own messages to where the cursors are. A
// plain view sees every state, also when several are reached at once.
func (s *session) advance(t *talk) {
	open := t.open[:0]
	for _, l := range t.open {
		if l.Sequence != 0 && l.Status == Sent && l.Sequence <= max(t.delivered, t.read) {
			l.Status = Delivered
			s.View.Update(l)
		}
		if l.Sequence != 0 && l.Status == Delivered && l.Sequence <= t.read {
			l.Status = Read
			s.View.Update(l)
		}
		if l.Status != Read {
			open = append(open, l)
		}
	}
	t.open = open
}
