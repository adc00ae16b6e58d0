//go:build linux

package load

import (
	"bytes"
	"fmt"

	"parley/wire"
)

// stream finds the one that a session writes to a reference.
func (j *crash) stream(s *session, ref wire.Ref) *stream {
	for _, out := range j.clients[s.index].outs {
		if out.ref == ref {
			return out
		}
	}
	return nil
}

func (j *crash) frame(s *session, f wire.Frame) {
	var err error
	switch f.Type {
	case wire.TypeSent:
		err = j.sent(s, f)
	case wire.TypeMessage:
		err = j.message(s, f)
	case wire.TypeReceipt:
		err = j.receipt(s, f)
	case wire.TypeHead:
		var h wire.Head
		if h, err = wire.ParseHead(f); err == nil {
			j.reaches(s, h.Ref, h.Sequence)
		}
	case wire.TypeError:
		err = j.refused(s, f)
	case wire.TypePage:
		if j.check != nil {
			if err = j.check.page(f); err != nil {
				j.check.broken(err)
			}
		}
	case wire.TypeGoAway:
		// The close that follows counts.
	default:
		err = fmt.Errorf("%v is not expected here", f.Type)
	}
	if err != nil {
		j.complain(s, err)
	}
}

// correlated finds the stream and counter of an answer.
func (j *crash) correlated(s *session, correlation uint64) (out *stream, counter uint64) {
	c := j.clients[s.index]
	// A client is side 0 of the conversation with the next user, and side 1 of the other.
	return c.outs[correlation&1], correlation >> 1
}

// sent takes an acknowledgement; one that comes again must say the same.
func (j *crash) sent(s *session, f wire.Frame) error {
	m, err := wire.ParseSent(f)
	if err != nil {
		return err
	}
	out, counter := j.correlated(s, m.Correlation)
	switch {
	case counter == 0 || counter > out.sent:
		return fmt.Errorf("SENT for counter %d of %d", counter, out.sent)
	case counter <= out.acked():
		if out.answers[counter-1] != m.Sequence {
			return fmt.Errorf("SENT says sequence %d for counter %d, and said %d before", m.Sequence, counter, out.answers[counter-1])
		}
		return nil
	case counter > out.acked()+1:
		return fmt.Errorf("SENT for counter %d after %d", counter, out.acked())
	}
	out.answers = append(out.answers, m.Sequence)
	j.acknowledged(out, counter)
	j.reaches(s, out.ref, m.Sequence)
	if m.Sequence == 0 || !out.chat.note(m.Sequence, item{int8(out.side), counter}) {
		return fmt.Errorf("SENT gives sequence %d to counter %d, which another message has", m.Sequence, counter)
	}
	return nil
}

// message takes a push: the text that belongs to its author and counter, at a sequence that no other
// message has. One's own come, too: those of a connection that this one has replaced.
func (j *crash) message(s *session, f wire.Frame) error {
	m, err := wire.ParseMessage(f)
	if err != nil {
		return err
	}
	author := j.stream(s, m.Ref)
	if author == nil || m.Author != 0 && m.Author != s.account.User {
		return fmt.Errorf("MESSAGE in %d by %d", m.Ref, m.Author)
	}
	j.result.Pushed++
	j.reaches(s, m.Ref, m.Sequence)
	if m.Author == 0 {
		author = author.chat.streams[1-author.side]
	}
	counter, err := j.counterOf(author, m.Content)
	if err != nil {
		return err
	}
	if !author.chat.note(m.Sequence, item{int8(author.side), counter}) {
		return fmt.Errorf("MESSAGE has counter %d at sequence %d, which another message has", counter, m.Sequence)
	}
	return nil
}

// counterOf reads a text and compares it with what was sent.
func (j *crash) counterOf(s *stream, c wire.Content) (uint64, error) {
	counter := parseCounter(c.Bytes)
	if counter == 0 || counter > s.sent || c.Extended || !bytes.Equal(c.Bytes, j.texts.Append(nil, uint64(s.number), counter)) {
		return 0, fmt.Errorf("a text that was never sent: %q", c.Bytes)
	}
	return counter, nil
}

// receipt checks that the other's cursor moves forward only.
func (j *crash) receipt(s *session, f wire.Frame) error {
	r, err := wire.ParseReceipt(f)
	if err != nil || r.Kind != wire.Delivered {
		return err
	}
	out := j.stream(s, r.Ref)
	if out == nil {
		return fmt.Errorf("RECEIPT in %d", r.Ref)
	}
	j.result.Receipts++
	if err := j.covers(out, r.Position, out.receipt); err != nil {
		return err
	}
	out.receipt = r.Position
	return nil
}

// covers takes a position of the other's cursor that must be at least what was told before. RECEIPTs
// come in order. A CONVERSATIONS may have been read before a RECEIPT was pushed that has come
// already, but not before the connection was made.
func (j *crash) covers(out *stream, position, least uint64) error {
	other := out.chat.streams[1-out.side]
	if position < least {
		j.result.Backwards++
		return fmt.Errorf("the other's cursor went back from %d to %d", least, position)
	}
	out.covered = max(out.covered, position)
	if position > other.known {
		return fmt.Errorf("the other's cursor is at %d, and it has sent at most %d", position, other.known)
	}
	return nil
}

// conversation compares an item of CONVERSATIONS with what was told before.
func (j *crash) conversation(s *session, state *wire.ConversationState) {
	out := j.stream(s, state.Ref)
	if out == nil {
		j.complain(s, fmt.Errorf("conversation with %d", state.Ref))
		return
	}
	j.reaches(s, state.Ref, state.Head)
	if err := j.covers(out, state.OtherDelivered, out.floor); err != nil {
		j.complain(s, err)
	}
}

// reaches learns that a conversation goes at least as far as this.
func (j *crash) reaches(s *session, ref wire.Ref, sequence uint64) {
	if out := j.stream(s, ref); out != nil {
		out.known = max(out.known, sequence)
	}
}

// refused takes an ERROR: those of the classes that say "again" are part of the play.
func (j *crash) refused(s *session, f wire.Frame) error {
	e, err := wire.ParseError(f)
	if err != nil {
		return err
	}
	out, counter := j.correlated(s, e.Correlation)
	switch e.Code.Class() {
	case wire.ClassRetry, wire.ClassRetryAfter:
		if e.Correlation == 0 { // of cursors, it is not known which
			for _, o := range j.clients[s.index].outs {
				o.told = 0
			}
			return nil
		}
		if counter > 0 {
			j.retry(out)
		} else if j.check != nil {
			j.loop.After(retryDelay, j.check.again)
		}
		return nil
	case wire.ClassReconnect:
		return nil
	}
	return e
}

// done sends what the answers of a read make possible.
func (j *crash) done(s *session) {
	if !s.alive() {
		return
	}
	c := j.clients[s.index]
	j.fill(c)
	j.cursors(c)
	if j.stops {
		j.settle()
	}
}
