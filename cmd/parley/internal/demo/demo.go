package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"parley/wire"
)

// timeout bounds the whole demonstration, which takes a few seconds.
const timeout = 2 * time.Minute

// errLost is wrapped when something is not as somebody was told.
var errLost = errors.New("not everything is as it was told")

// A demo is one run.
type demo struct {
	out     io.Writer
	program string
	dir     string
	server  *process
	ada     *person
	bob     *person
	told    []message // what the server acknowledged, in order
}

// Run plays the conversation with the given program as the server.
func Run(ctx context.Context, out io.Writer, program string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	temporary, err := os.MkdirTemp("", "parley-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	d := &demo{out: out, program: program, dir: filepath.Join(temporary, "data")}
	defer d.close()
	for _, act := range []func(context.Context) error{d.begin, d.talk, d.crash, d.check} {
		if err := act(ctx); err != nil {
			return fmt.Errorf("%w\nthe end of the server's log: %s", err, logTail(d.dir))
		}
	}
	return nil
}

func (d *demo) close() {
	for _, p := range []*person{d.ada, d.bob} {
		if p != nil {
			p.client.Close()
		}
	}
	if d.server != nil {
		d.server.stop()
	}
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// tick shows a state of a message as its author sees it.
func (d *demo) tick(p *person, sequence uint64, sign, state string) {
	d.say("    %-4s #%d %s %s", p.name, sequence, sign, state)
}

// begin starts the server and logs Ada in; Bob is away.
func (d *demo) begin(ctx context.Context) (err error) {
	if d.server, err = start(d.program, d.dir, "127.0.0.1:0"); err != nil {
		return err
	}
	d.say("A server runs at ws://%s, process %d. Bob is away; Ada writes to him.\n", d.server.address, d.server.command.Process.Pid)
	if d.ada, err = connect(ctx, d.dir, d.server.address, "ada"); err != nil {
		return err
	}
	if err := d.ada.meet(ctx, "bob"); err != nil {
		return err
	}
	return d.send(ctx, d.ada, "Hello Bob, are you there?")
}

// send sends a message and waits until it is acknowledged: from then on it must exist.
func (d *demo) send(ctx context.Context, p *person, text string) error {
	d.say("    %-4s    … %q", p.name, text)
	sent, err := p.client.Send(ctx, p.ref, wire.Text(text))
	if err != nil {
		return fmt.Errorf("%s sends: %w", p.name, err)
	}
	d.told = append(d.told, message{sent.Sequence, p.name, text})
	d.tick(p, sent.Sequence, "✓ ", "sent: on disk")
	return nil
}

// receive waits until the last message came to p, and its author sees the ticks of that.
func (d *demo) receive(ctx context.Context, p, author *person) error {
	last := d.told[len(d.told)-1]
	if err := p.wait(ctx, "a message", func(p *person) bool { return slices.Contains(p.received, last) }); err != nil {
		return err
	}
	if err := author.wait(ctx, "a delivered receipt", func(a *person) bool { return a.delivered >= last.sequence }); err != nil {
		return err
	}
	d.tick(author, last.sequence, "✓✓", "delivered to "+p.name)
	if err := p.client.Read(p.ref, last.sequence); err != nil {
		return err
	}
	if err := author.wait(ctx, "a read receipt", func(a *person) bool { return a.read >= last.sequence }); err != nil {
		return err
	}
	d.tick(author, last.sequence, "✓✓", "read by "+p.name)
	return nil
}

// talk brings Bob in, and lets both write.
func (d *demo) talk(ctx context.Context) (err error) {
	d.say("\nBob comes.\n")
	if d.bob, err = connect(ctx, d.dir, d.server.address, "bob"); err != nil {
		return err
	}
	if err := d.bob.meet(ctx, "ada"); err != nil {
		return err
	}
	if err := d.receive(ctx, d.bob, d.ada); err != nil {
		return err
	}
	if err := d.bob.client.Typing(d.bob.ref); err != nil {
		return err
	}
	if err := d.ada.wait(ctx, "bob to write", func(p *person) bool { return p.typing }); err != nil {
		return err
	}
	d.say("    ada  sees that bob is writing")
	if err := d.send(ctx, d.bob, "I am! What happens if somebody pulls the plug?"); err != nil {
		return err
	}
	if err := d.receive(ctx, d.ada, d.bob); err != nil {
		return err
	}
	return d.send(ctx, d.ada, "Let us see: this one is acknowledged, and then")
}

// crash kills the server, lets Ada write meanwhile, and starts it again.
func (d *demo) crash(ctx context.Context) (err error) {
	lostBefore := map[*person]int{d.ada: d.ada.connectionsLost(), d.bob: d.bob.connectionsLost()}
	address := d.server.address
	d.server.kill()
	d.say("\nThe server is killed with SIGKILL, right after that acknowledgement.\n")
	for _, p := range []*person{d.ada, d.bob} {
		if err := p.wait(ctx, "the connection to be lost", func(p *person) bool { return p.lost > lostBefore[p] }); err != nil {
			return err
		}
		d.say("    %-4s is offline, and tries again by itself", p.name)
	}
	const text = "Written while there was no server."
	pending, err := d.ada.client.Queue(d.ada.ref, wire.Text(text))
	if err != nil {
		return err
	}
	d.say("    ada     … %q", text)
	began := time.Now()
	if d.server, err = start(d.program, d.dir, address); err != nil {
		return err
	}
	d.say("\nThe server is started again; it serves after %d ms, process %d.\n", time.Since(began).Milliseconds(), d.server.command.Process.Pid)
	select {
	case <-pending.Done():
	case <-ctx.Done():
		return fmt.Errorf("ada waits for her message to be sent: %w", context.Cause(ctx))
	}
	sent, err := pending.Result()
	if err != nil {
		return err
	}
	d.told = append(d.told, message{sent.Sequence, "ada", text})
	d.tick(d.ada, sent.Sequence, "✓ ", "sent: on disk")
	if err := d.receive(ctx, d.bob, d.ada); err != nil {
		return err
	}
	if err := d.send(ctx, d.bob, "Everything came, once and in order."); err != nil {
		return err
	}
	return d.receive(ctx, d.ada, d.bob)
}
