package demo

import (
	"context"
	"fmt"
	"slices"
)

// check kills the server once more and looks with two new devices, which know nothing, for
// everything that anybody was told.
func (d *demo) check(ctx context.Context) (err error) {
	for _, p := range []*person{d.ada, d.bob} {
		if err := d.compare(p.name+" received", p.messages()); err != nil {
			return err
		}
		p.client.Close()
	}
	d.ada, d.bob = nil, nil
	d.server.kill()
	d.say("\nThe server is killed once more and started again. Ada and Bob look from new devices.\n")
	if d.server, err = start(d.program, d.dir, "127.0.0.1:0"); err != nil {
		return err
	}
	if d.ada, err = d.look(ctx, "ada", "bob"); err != nil {
		return err
	}
	if d.bob, err = d.look(ctx, "bob", "ada"); err != nil {
		return err
	}
	for _, m := range d.told {
		d.say("    %-4s #%d ✓✓ read  %q", m.author, m.sequence, m.text)
	}
	d.say("\nAll %d messages are there, in order, none twice, each with its receipts.", len(d.told))
	return nil
}

// look checks the history and the receipts that a new device of a user finds.
func (d *demo) look(ctx context.Context, name, other string) (*person, error) {
	p, err := connect(ctx, d.dir, d.server.address, name)
	if err != nil {
		return nil, err
	}
	if err := p.meet(ctx, other); err != nil {
		return p, err
	}
	if err := p.wait(ctx, "the list of conversations", func(p *person) bool { return p.live }); err != nil {
		return p, err
	}
	found, err := p.history(ctx, other)
	if err != nil {
		return p, err
	}
	if err := d.compare(name+" finds", found); err != nil {
		return p, err
	}
	head := uint64(len(d.told))
	s, ok := p.state()
	// The last message of each was read by the other; a cursor stands at what was read.
	read := d.lastOf(name)
	if !ok || s.Head != head || s.OtherRead < read || s.OtherDelivered < read || s.Read < d.lastOf(other) || s.Unread != 0 {
		return p, fmt.Errorf("%w: %s finds the state %+v, with %d messages of which the other read %d", errLost, name, s, head, read)
	}
	return p, nil
}

// lastOf is the sequence of the last message of an author.
func (d *demo) lastOf(author string) uint64 {
	for _, m := range slices.Backward(d.told) {
		if m.author == author {
			return m.sequence
		}
	}
	return 0
}

// compare reports what is missing, doubled or out of order.
func (d *demo) compare(what string, got []message) error {
	for i, m := range d.told {
		if m.sequence != uint64(i)+1 {
			return fmt.Errorf("%w: the message %q was acknowledged as %d, not %d", errLost, m.text, m.sequence, i+1)
		}
	}
	if !slices.Equal(got, d.told) {
		return fmt.Errorf("%w: %s %v, not %v", errLost, what, got, d.told)
	}
	return nil
}
