package demo

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"parley/engine/admin"
	"parley/wire"
	"parley/wire/client"
)

// A person is one user with one client, and what came to it.
type person struct {
	name   string
	client *client.Client
	ref    wire.Ref // the conversation with the other

	mu        sync.Mutex
	changed   chan struct{} // closed and made anew at each event
	received  []message
	delivered uint64 // the other's cursors
	read      uint64
	typing    bool
	live      bool
	lost      int // connections
}

// A message is what the demonstration compares: who said what, where.
type message struct {
	sequence uint64
	author   string
	text     string
}

// connect logs a user in on a new device.
func connect(ctx context.Context, dir, address, name string) (*person, error) {
	operator := admin.NewClient(filepath.Join(dir, "admin.sock"))
	first, err := operator.Token(ctx, name, 0, time.Hour)
	if err != nil {
		return nil, err
	}
	p := &person{name: name, changed: make(chan struct{})}
	p.client, err = client.Open(ctx, client.Options{
		Address: "ws://" + address, Name: "parley demo", Foreground: true, Begin: client.BeginRead,
		Token: func(context.Context) (string, error) { return first.Text, nil },
	})
	if err != nil {
		return nil, fmt.Errorf("connect as %s: %w", name, err)
	}
	return p, nil
}

// meet tells a person whom the conversation is with, and begins to take in events.
func (p *person) meet(ctx context.Context, name string) error {
	users, err := p.client.Resolve(ctx, name)
	if err != nil {
		return err
	}
	if len(users) != 1 {
		return fmt.Errorf("%d users are called %s", len(users), name)
	}
	p.ref = wire.DirectRef(users[0].ID)
	go func() {
		for e := range p.client.Events() {
			p.mu.Lock()
			p.take(e, name)
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
		}
	}()
	return nil
}

// take records an event. It holds mu.
func (p *person) take(e client.Event, other string) {
	switch e := e.(type) {
	case *client.MessageEvent:
		m := message{e.Sequence, other, string(e.Content.Bytes)}
		if e.Author == p.client.User() {
			m.author = p.name
		}
		p.received = append(p.received, m)
	case *client.ReceiptEvent:
		switch e.Kind {
		case wire.Delivered:
			p.delivered = max(p.delivered, e.Position)
		case wire.Read:
			p.read = max(p.read, e.Position)
		}
	case *client.ConversationEvent:
		p.delivered, p.read = max(p.delivered, e.State.OtherDelivered), max(p.read, e.State.OtherRead)
	case *client.TypingEvent:
		p.typing = true
	case *client.ConnectionEvent:
		p.live = e.State == client.Live
		if e.State == client.Offline {
			p.lost++
		}
	}
}

// wait blocks until a condition on what came holds; what names it in the error.
func (p *person) wait(ctx context.Context, what string, holds func(p *person) bool) error {
	for {
		p.mu.Lock()
		done, changed := holds(p), p.changed
		p.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s waits for %s: %w", p.name, what, context.Cause(ctx))
		}
	}
}

func (p *person) connectionsLost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// messages are those that came, in the order in which they came.
func (p *person) messages() []message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.received)
}

// history reads the whole conversation from the server.
func (p *person) history(ctx context.Context, other string) ([]message, error) {
	page, err := p.client.History(ctx, wire.History{Ref: p.ref, Mode: wire.HistoryForward})
	if err != nil {
		return nil, err
	}
	var all []message
	for _, m := range page.Messages {
		author := p.name
		if m.Author == 0 || m.Author == p.ref.ID() {
			author = other
		}
		all = append(all, message{m.Sequence, author, string(m.Content.Bytes)})
	}
	return all, nil
}

// state is the conversation as the server lists it.
func (p *person) state() (wire.ConversationState, bool) {
	for _, s := range p.client.Conversations() {
		if s.Ref == p.ref {
			return s, true
		}
	}
	return wire.ConversationState{}, false
}
