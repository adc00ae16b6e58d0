package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// acceptPause is how long accepting rests after an error that may pass, such as too many files.
const acceptPause = 50 * time.Millisecond

// accept takes connections until the listener is closed.
func (h *Hub) accept() {
	for {
		conn, err := h.options.Listener.Accept()
		if err != nil {
			if h.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			h.logger.Warn("link: accept", "error", err)
			timer := time.NewTimer(acceptPause)
			select {
			case <-timer.C:
			case <-h.ctx.Done():
				timer.Stop()
				return
			}
			continue
		}
		select {
		case h.handshakes <- struct{}{}:
			s := newStream(conn, &h.total)
			if h.adopt(s) {
				h.running.Go(func() { h.receive(s) })
			}
		default:
			h.total.refusals.Add(1)
			_ = conn.Close() // nobody is told: too many ask
		}
	}
}

// receive shakes hands with who connected, and serves the connection to its end.
func (h *Hub) receive(s *stream) {
	defer h.abandon(s)
	hi, err := h.welcome(s)
	var request []byte // of a connection that has one
	if err == nil && hi.purpose != purposeLink {
		request, err = s.expect(&frameReader{in: s.in}, frameRequest, handshakeTimeout)
	}
	<-h.handshakes
	switch {
	case err != nil:
	case hi.purpose == purposeLink:
		err = h.serveLink(s, &hi)
	case hi.purpose == purposeSnapshot:
		err = h.serveTransfer(s, &hi, request)
	case hi.purpose == purposeJoin:
		err = h.serveJoin(s, request)
	}
	if err != nil && h.ctx.Err() == nil {
		h.refuse(s, err)
	}
}

// refuse logs why a connection is closed, and counts it.
func (h *Hub) refuse(s *stream, err error) {
	if h.ctx.Err() != nil {
		return
	}
	h.total.refusals.Add(1)
	host, _, splitErr := net.SplitHostPort(s.RemoteAddr().String())
	if splitErr != nil {
		host = s.RemoteAddr().String()
	}
	if h.complaints.fresh(host + " " + err.Error()) {
		h.logger.Warn("link: connection closed", "from", host, "error", err)
	}
}

// welcome is the handshake of the side that accepted.
func (h *Hub) welcome(s *stream) (hello, error) {
	ctx, cancel := context.WithTimeout(h.ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	if err := s.secure(ctx, h.options.TLS, false); err != nil {
		return hello{}, err
	}
	var b [helloBytes]byte
	if _, err := io.ReadFull(s.in, b[:len(magic)]); err != nil {
		return hello{}, fmt.Errorf("%w: it says nothing: %w", ErrPreamble, err)
	}
	if string(b[:len(magic)]) != magic { // such a client may not send as much as a hello has
		return hello{}, fmt.Errorf("%w: it begins with %q", ErrPreamble, b[:len(magic)])
	}
	if _, err := io.ReadFull(s.in, b[len(magic):]); err != nil {
		return hello{}, fmt.Errorf("%w: half a hello: %w", ErrPreamble, err)
	}
	hi, err := parseHello(b[:])
	if err != nil {
		return hello{}, err
	}
	w := welcome{version: min(hi.version, Version), cluster: h.cluster.Load(), node: h.Self(), incarnation: h.incarnation, epoch: h.options.Epoch()}
	w.status, w.reason = h.judge(&hi)
	if err := s.writeAll(appendWelcome(nil, &w)); err != nil {
		return hello{}, err
	}
	if w.status != statusWelcome {
		return hello{}, fmt.Errorf("link: refused node %d: %s", hi.from, w.reason)
	}
	if !stop() {
		return hello{}, context.Cause(ctx)
	}
	return hi, nil
}

// judge decides about a hello. A reason is for the other side's operator.
func (h *Hub) judge(hi *hello) (status, string) {
	self, cluster := h.Self(), h.cluster.Load()
	if hi.oldest > Version || hi.version < versionOldest {
		return statusVersion, fmt.Sprintf("no version in common: this node speaks %d to %d, the other %d to %d",
			versionOldest, Version, hi.oldest, hi.version)
	}
	if hi.purpose == purposeJoin {
		if hi.cluster != 0 && hi.cluster != cluster {
			return statusCluster, fmt.Sprintf("this is cluster %016x, not %016x", cluster, hi.cluster)
		}
		if h.join.Load() == nil || self == 0 {
			return statusPurpose, "this node takes no joins"
		}
		return statusWelcome, ""
	}
	switch {
	case hi.cluster != cluster:
		return statusCluster, fmt.Sprintf("this is cluster %016x, not %016x: does the address, or the data folder, belong to another one?", cluster, hi.cluster)
	case hi.to != self || self == 0:
		return statusReceiver, fmt.Sprintf("this is node %d, not %d", self, hi.to)
	case hi.from == 0 || hi.from == self:
		return statusSender, fmt.Sprintf("node %d cannot connect to node %d", hi.from, self)
	case hi.purpose != purposeLink && hi.purpose != purposeSnapshot:
		return statusPurpose, fmt.Sprintf("purpose %d is not known here", hi.purpose)
	}
	if h.options.Admit != nil {
		if err := h.options.Admit(hi.from); err != nil {
			return statusSender, err.Error()
		}
	}
	if hi.purpose == purposeLink {
		return h.judgeTwin(hi)
	}
	return statusWelcome, ""
}

// judgeTwin refuses a second living process with the number of a first: a copied data folder.
// A process that was started again comes after its predecessor's connection has ended, or
// has been silent.
func (h *Hub) judgeTwin(hi *hello) (status, string) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	in := h.inbound[hi.from]
	if in != nil && in.incarnation != hi.incarnation && in.stream.alive.idle(h.now()) < SilentAfter {
		return statusDuplicate, fmt.Sprintf("node %d is connected from %s: two processes must not have one number", hi.from, in.stream.RemoteAddr())
	}
	return statusWelcome, ""
}
