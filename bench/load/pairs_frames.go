//go:build linux

package load

import (
	"fmt"

	"parley/wire"
)

func (j *pairs) of(s *session) (p *pair, sends bool) { return j.pairs[s.index/2], s.index%2 == 0 }

func (j *pairs) live(s *session) {
	if j.resumed != nil {
		j.resumed.live(s)
		return
	}
	j.lives++
	if j.lives < 2*len(j.pairs) || j.connected == nil {
		return
	}
	if len(j.plan.Nodes) > 1 {
		j.open()
		return
	}
	answer := j.connected
	j.connected = nil
	answer(j.lives, nil)
}

// open sends the first message of each pair. In a cluster it is not pushed: the receiver's node hears
// of the conversation by way of the user's home, and a HEAD tells of it. What comes later is pushed.
func (j *pairs) open() {
	j.running = true
	for _, p := range j.pairs {
		j.fill(p)
	}
}

// openedBy counts a pair whose receiver knows of the conversation. When all do, connect is answered.
func (j *pairs) openedBy(p *pair) {
	p.opened, p.owes = true, true
	j.unopened--
	if j.unopened > 0 {
		return
	}
	j.running = false
	answer := j.connected
	j.connected = nil
	answer(j.lives, nil)
}

// head is a lower bound. It opens a conversation; if it stands for pushes that were left out, the next
// MESSAGE shows the gap.
func (j *pairs) head(p *pair, sends bool, f wire.Frame) error {
	j.total.Heads++
	h, err := wire.ParseHead(f)
	if err == nil && !sends && !p.opened && h.Sequence > p.base && h.Ref == wire.DirectRef(p.sender.account.User) {
		p.delivered++
		j.total.Delivered++
		j.openedBy(p)
	}
	return err
}

// conversation learns where the conversation stood before.
func (j *pairs) conversation(s *session, state *wire.ConversationState) {
	p, sends := j.of(s)
	if sends && p.sent == 0 && state.Ref == wire.DirectRef(p.receiver.account.User) {
		p.base = state.Head
	}
}

func (j *pairs) closed(s *session, err error) {
	j.complaints.add(fmt.Sprintf("user %v: %v", s.account.User, err))
	if j.connected != nil {
		answer := j.connected
		j.connected = nil
		answer(nil, err)
	}
	if j.resumed != nil {
		j.resumed.end(err)
	}
}

func (j *pairs) frame(s *session, f wire.Frame) {
	var err error
	p, sends := j.of(s)
	switch {
	case f.Type == wire.TypeSent && sends:
		err = j.sent(p, f)
	case f.Type == wire.TypeMessage && !sends:
		err = j.message(p, f)
	case f.Type == wire.TypeReceipt && sends:
		err = j.receiptOf(p, f)
	case f.Type == wire.TypeReceipt:
		// One's own cursor, seen from another session of the user.
	case f.Type == wire.TypeHead:
		err = j.head(p, sends, f)
	case f.Type == wire.TypeError:
		var e *wire.Error
		if e, err = wire.ParseError(f); err == nil {
			err = e
		}
	default:
		err = fmt.Errorf("%v is not expected here", f.Type)
	}
	if err != nil {
		j.complaints.add(fmt.Sprintf("user %v: %v", s.account.User, err))
	}
}

// sent takes an acknowledgement: in the order of the sends, with the sequences following.
func (j *pairs) sent(p *pair, f wire.Frame) error {
	m, err := wire.ParseSent(f)
	if err != nil {
		return err
	}
	if m.Correlation != p.acked+1 || m.Correlation > p.sent || m.Sequence != p.base+m.Correlation {
		return fmt.Errorf("SENT %d with sequence %d after %d with %d", m.Correlation, m.Sequence, p.acked, p.base+p.acked)
	}
	p.acked++
	j.total.Acked++
	j.ack.record(j.loop.now - p.moments[p.acked%momentsKept])
	return nil
}

// message takes a push: exactly the next one, with the text that was sent.
func (j *pairs) message(p *pair, f wire.Frame) error {
	m, err := wire.ParseMessage(f)
	if err != nil {
		return err
	}
	counter := parseCounter(m.Content.Bytes)
	if counter == 1 && p.delivered > 0 && len(j.plan.Nodes) > 1 {
		return nil // a HEAD has told of it before
	}
	if counter != p.delivered+1 || counter > p.sent || m.Sequence != p.base+counter || len(m.Content.Bytes) != j.texts.bytes {
		return fmt.Errorf("MESSAGE %d with sequence %d after %d with %d", counter, m.Sequence, p.delivered, p.base+p.delivered)
	}
	p.delivered++
	if p.owes = true; !p.opened {
		j.openedBy(p)
	}
	j.total.Delivered++
	j.deliver.record(j.loop.now - p.moments[counter%momentsKept])
	return nil
}

// receiptOf takes a receipt, which covers all up to its position and never goes back.
func (j *pairs) receiptOf(p *pair, f wire.Frame) error {
	r, err := wire.ParseReceipt(f)
	if err != nil || r.Kind != wire.Delivered {
		return err
	}
	j.total.Receipts++
	covered := r.Position - p.base
	if r.Position < p.base+p.receipted || covered > p.delivered {
		return fmt.Errorf("RECEIPT at %d after %d, %d delivered", r.Position, p.base+p.receipted, p.delivered)
	}
	for p.receipted < covered {
		p.receipted++
		j.total.Receipted++
		j.receipt.record(j.loop.now - p.moments[p.receipted%momentsKept])
	}
	return nil
}

// done answers a whole read: the receiver with one cursor, the sender with what its window allows.
func (j *pairs) done(s *session) {
	p, sends := j.of(s)
	if sends {
		j.fill(p)
	} else if p.owes {
		p.owes = false
		j.total.Cursors++
		out := s.output()
		*out = wire.AppendCursor(*out, &wire.Cursor{Ref: wire.DirectRef(p.sender.account.User),
			Position: p.base + p.delivered, Kind: wire.Delivered})
	}
	j.check()
}

// A resumption reconnects the first sender twice: the first time it learns of its own messages and
// gets a new token, the second time nothing has changed.
type resumption struct {
	job    *pairs
	answer reply
	rounds int
}

func (j *pairs) resume(answer reply) {
	j.resumed = &resumption{job: j, answer: answer}
	j.resumed.dial()
}

func (r *resumption) dial() {
	s := r.job.pairs[0].sender
	s.conn.Abort()
	if err := s.dial(); err != nil {
		r.end(err)
	}
}

func (r *resumption) live(s *session) {
	r.rounds++
	if r.rounds == 1 {
		r.job.loop.After(0, r.dial) // not from within a handler of the connection it ends
		return
	}
	answer := r.answer
	r.job.resumed = nil
	c := s.conn
	answer(ResumeResult{Bytes: c.BytesIn + c.BytesOut, HandshakeBytes: c.HandshakeBytes}, nil)
}

func (r *resumption) end(err error) {
	r.job.resumed = nil
	r.answer(nil, err)
}
