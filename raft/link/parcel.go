package link

import (
	"fmt"

	hraft "github.com/hashicorp/raft"
)

// A parcel is entries that were sent before their leader had written them. hashicorp/raft
// sends them once they are written; then the parcel's answer is the answer, and nothing goes
// over the link a second time. If it is not like that in any way (the boundaries of messages
// differ, the parcel was refused), the message is sent as if there had been no parcel: a
// replica skips entries that it has.
type parcel struct {
	pipeline *pipeline
	tail     hraft.AppendEntriesRequest // what follows the entries, without any
	answered bool
	resp     hraft.AppendEntriesResponse
	waiting  []*appendFuture // messages that the answer is for
}

// follow notes what a message that follows this one begins with. mu is held.
func (p *pipeline) follow(args *hraft.AppendEntriesRequest) {
	p.tail = *args
	p.tail.Entries = nil
	if n := len(args.Entries); n > 0 {
		p.tail.PrevLogEntry, p.tail.PrevLogTerm = args.Entries[n-1].Index, args.Entries[n-1].Term
	}
}

// Ship sends entries that continue what was sent, if there is room for them.
func (p *pipeline) Ship(logs []*hraft.Log, committed uint64) {
	select {
	case p.slots <- struct{}{}:
	default:
		return
	}
	c, args := p.pack(logs, committed)
	if c == nil {
		<-p.slots
		return
	}
	_, err := p.transport.send(p.link, p.target, c, frameAppend, true, func(b []byte) []byte {
		return appendAppend(append(b, lazyFlag(true)), args)
	})
	if err != nil {
		c.fail(err)
	}
}

// pack makes a parcel and its message; nil if the entries do not continue what was sent.
func (p *pipeline) pack(logs []*hraft.Log, committed uint64) (*parcel, *hraft.AppendEntriesRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	args := p.tail
	if n := len(p.early); n > 0 {
		args = p.early[n-1].tail
	}
	switch {
	case p.broken != nil || len(p.early) >= AppendsInFlightMax || len(logs) > entriesMax:
		return nil, nil
	case args.Term != logs[0].Term || args.PrevLogEntry+1 != logs[0].Index:
		return nil, nil
	}
	c := &parcel{pipeline: p, tail: args}
	last := logs[len(logs)-1]
	c.tail.PrevLogEntry, c.tail.PrevLogTerm = last.Index, last.Term
	p.committed = max(p.committed, committed)
	args.Entries, args.LeaderCommitIndex = logs, p.committed
	p.early = append(p.early, c)
	return c, &args
}

// shipped reports whether a message is on its way already, in parcels that end where it does.
// Those that end before are done with; those behind it wait for their own message.
func (p *pipeline) shipped(f *appendFuture) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(f.args.Entries)
	if n == 0 || len(p.early) == 0 || p.broken != nil {
		return false
	}
	last, whole := f.args.Entries[n-1], p.tail.PrevLogEntry == f.args.PrevLogEntry
	for i, c := range p.early {
		if c.tail.PrevLogEntry < last.Index {
			continue
		}
		if !whole || c.tail.PrevLogEntry > last.Index || c.tail.Term != f.args.Term || c.answered && !c.resp.Success {
			break
		}
		p.early, p.last = p.early[i+1:], f
		p.follow(f.args)
		if !c.answered {
			c.waiting = append(c.waiting, f)
			return true
		}
		*f.resp = c.resp
		p.deliver(f)
		return true
	}
	p.early = nil
	return false
}

func (c *parcel) answer(kind frameKind, d *decoder) error {
	switch kind {
	case frameAppended:
		if err := parseAppended(d, &c.resp); err != nil {
			return err
		}
	case frameRefused:
		text := d.bytes(textBytesMax)
		if err := d.end(kind); err != nil {
			return err
		}
		c.fail(fmt.Errorf("%w: %s", errNotThere, text))
		return nil
	default:
		return fmt.Errorf("%w: kind %d answers another question", ErrFrame, kind)
	}
	p := c.pipeline
	<-p.slots
	p.mu.Lock()
	defer p.mu.Unlock()
	c.answered = true
	for _, f := range c.waiting {
		if p.broken != nil {
			return nil // all that was before the failure has been delivered
		}
		*f.resp = c.resp
		p.deliver(f)
		if !c.resp.Success {
			p.end(errPipelineBroken)
		}
	}
	return nil
}

func (c *parcel) fail(err error) {
	p := c.pipeline
	<-p.slots
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(fmt.Errorf("%w: %w", errPipelineBroken, err))
}
