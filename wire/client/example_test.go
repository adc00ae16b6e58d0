package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"parley/wire"
	"parley/wire/client"
)

// run starts a server with the users alice and bob, and calls an example with it.
func run(example func(ctx context.Context, s *server) error) {
	folder, err := os.MkdirTemp("", "parley")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	s, err := startServer(filepath.Join(folder, "data"), "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.node.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := example(ctx, s); err != nil {
		fmt.Println(err)
	}
}

// Two users: one sends, the other receives, and the first one sees it delivered.
func Example() {
	run(func(ctx context.Context, s *server) error {
		alice, err := client.Open(ctx, s.options("alice", 1))
		if err != nil {
			return err
		}
		defer alice.Close()
		bob, err := client.Open(ctx, s.options("bob", 2))
		if err != nil {
			return err
		}
		defer bob.Close()

		found, err := alice.Resolve(ctx, "bob")
		if err != nil {
			return err
		}
		sent, err := alice.Send(ctx, wire.DirectRef(found[0].ID), wire.Text("Are you there?"))
		if err != nil {
			return err
		}
		fmt.Println("sent as message", sent.Sequence)

		for e := range bob.Events() {
			if m, ok := e.(*client.MessageEvent); ok {
				fmt.Printf("bob reads: %s\n", m.Content.Bytes)
				break
			}
		}
		for e := range alice.Events() {
			if r, ok := e.(*client.ReceiptEvent); ok && r.Kind == wire.Delivered {
				fmt.Println("delivered up to message", r.Position)
				break
			}
		}
		return nil
	})
	// Output:
	// sent as message 1
	// bob reads: Are you there?
	// delivered up to message 1
}

// A program that answers what it gets, over lost connections, until its client ends.
func ExampleClient_Events() {
	run(func(ctx context.Context, s *server) error {
		o := s.options("bob", 2)
		o.Begin = client.BeginRead // what came while it did not run is answered too
		bot, err := client.Open(ctx, o)
		if err != nil {
			return err
		}
		defer bot.Close()
		go func() {
			for e := range bot.Events() {
				m, ok := e.(*client.MessageEvent)
				if !ok || m.Author == bot.User() {
					continue
				}
				bot.Read(m.Ref, m.Sequence)
				bot.Queue(m.Ref, wire.Text("you said: "+string(m.Content.Bytes)))
			}
		}()

		alice, err := client.Open(ctx, s.options("alice", 1))
		if err != nil {
			return err
		}
		defer alice.Close()
		if _, err := alice.Queue(wire.DirectRef(s.ids["bob"]), wire.Text("hello")); err != nil {
			return err
		}
		for e := range alice.Events() {
			if m, ok := e.(*client.MessageEvent); ok {
				fmt.Printf("%d %s\n", m.Sequence, m.Content.Bytes)
				if m.Author != alice.User() {
					break
				}
			}
		}
		return nil
	})
	// Output:
	// 1 hello
	// 2 you said: hello
}

// Queue does not wait for the server: the sends of a conversation are on their way
// together, and arrive in order.
func ExampleClient_Queue() {
	run(func(ctx context.Context, s *server) error {
		alice, err := client.Open(ctx, s.options("alice", 1))
		if err != nil {
			return err
		}
		defer alice.Close()
		var pending []*client.Pending
		for _, text := range []string{"one", "two", "three"} {
			p, err := alice.Queue(wire.DirectRef(s.ids["bob"]), wire.Text(text))
			if err != nil {
				return err
			}
			pending = append(pending, p)
		}
		for _, p := range pending {
			<-p.Done()
			sent, err := p.Result()
			fmt.Println(string(p.Content().Bytes), sent.Sequence, err)
		}
		return nil
	})
	// Output:
	// one 1 <nil>
	// two 2 <nil>
	// three 3 <nil>
}

// What the server refuses for good is a *wire.Error with a code.
func ExampleClient_Send_refused() {
	run(func(ctx context.Context, s *server) error {
		alice, err := client.Open(ctx, s.options("alice", 1))
		if err != nil {
			return err
		}
		defer alice.Close()
		_, err = alice.Send(ctx, wire.DirectRef(12345), wire.Text("Is anybody there?"))
		var refused *wire.Error
		if errors.As(err, &refused) {
			fmt.Println(refused.Code)
		}
		return nil
	})
	// Output:
	// UNKNOWN_USER
}

// A program shows the end of a conversation, and walks back from there.
func ExampleClient_History() {
	run(func(ctx context.Context, s *server) error {
		alice, err := client.Open(ctx, s.options("alice", 1))
		if err != nil {
			return err
		}
		defer alice.Close()
		bob := wire.DirectRef(s.ids["bob"])
		for i := range 5 {
			if _, err := alice.Send(ctx, bob, wire.Text(fmt.Sprintf("message %d", i+1))); err != nil {
				return err
			}
		}
		h := wire.History{Ref: bob, Mode: wire.HistoryBackward, Limit: 2}
		for more := true; more; {
			page, err := alice.History(ctx, h)
			if err != nil {
				return err
			}
			for _, m := range page.Messages {
				fmt.Printf("%d %s\n", m.Sequence, m.Content.Bytes)
			}
			h.Sequence = page.Messages[0].Sequence
			if more = page.Flags&wire.PageMoreBefore != 0; more {
				fmt.Println("before that:")
			}
		}
		return nil
	})
	// Output:
	// 4 message 4
	// 5 message 5
	// before that:
	// 2 message 2
	// 3 message 3
	// before that:
	// 1 message 1
}

// With an outbox in a file, a message that was queued is sent, once, even if the program
// dies before the server has it.
func ExampleOpenFileOutbox() {
	run(func(ctx context.Context, s *server) error {
		path := filepath.Join(s.data, "..", "outbox")
		open := func() (*client.Client, error) {
			outbox, err := client.OpenFileOutbox(path)
			if err != nil {
				return nil, err
			}
			o := s.options("alice", 1)
			o.Outbox = outbox
			return client.Open(ctx, o)
		}
		alice, err := open()
		if err != nil {
			return err
		}
		if _, err := alice.Queue(wire.DirectRef(s.ids["bob"]), wire.Text("see you later")); err != nil {
			return err
		}
		alice.Close() // at once: perhaps it was sent, perhaps not

		if alice, err = open(); err != nil {
			return err
		}
		defer alice.Close()
		if err := alice.Flush(ctx); err != nil {
			return err
		}
		page, err := alice.History(ctx, wire.History{Ref: wire.DirectRef(s.ids["bob"])})
		if err != nil {
			return err
		}
		for _, m := range page.Messages {
			fmt.Printf("%d %s\n", m.Sequence, m.Content.Bytes)
		}
		return nil
	})
	// Output:
	// 1 see you later
}
