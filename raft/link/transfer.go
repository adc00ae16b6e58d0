package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	hraft "github.com/hashicorp/raft"
)

// A transfer is a connection for one snapshot:
//
//	sender    frameRequest, then, once it is told to proceed, Size bytes
//	receiver  frameProceed, and frameInstalled at the end; or frameRefused instead of either
//
// TCP's window is the flow control: the receiver reads as fast as it stores.

// InstallSnapshot sends a snapshot on a connection of its own. It waits while TransfersMax others
// are sent.
func (t *transport) InstallSnapshot(_ hraft.ServerID, target hraft.ServerAddress, args *hraft.InstallSnapshotRequest, resp *hraft.InstallSnapshotResponse, data io.Reader) error {
	p, err := t.peerOf(target)
	if err != nil {
		return err
	}
	select {
	case t.hub.sending <- struct{}{}:
		defer func() { <-t.hub.sending }()
	case <-p.ctx.Done():
		return fmt.Errorf("%w: there is no link to node %d any more", ErrUnreachable, p.node)
	case <-t.closed:
		return ErrClosed
	}
	s, _, err := t.hub.dial(p.ctx, p.node, purposeSnapshot, &p.count)
	if err != nil {
		return err
	}
	defer t.hub.abandon(s)
	defer context.AfterFunc(t.ctx, s.close)()
	defer context.AfterFunc(p.ctx, s.close)()
	p.carry(s)
	defer p.drop(s)
	if err := t.sendSnapshot(s, target, args, resp, data); err != nil {
		return fmt.Errorf("link: snapshot to node %d: %w", p.node, err)
	}
	return nil
}

func (t *transport) sendSnapshot(s *stream, target hraft.ServerAddress, args *hraft.InstallSnapshotRequest, resp *hraft.InstallSnapshotResponse, data io.Reader) error {
	b := appendRoute(openFrame(nil, frameRequest), routeKey{t.group, t.server, string(target)})
	b, err := closeFrame(appendInstall(b, args), 0)
	if err != nil {
		return err
	}
	if err := s.writeAll(b); err != nil {
		return err
	}
	frames := &frameReader{in: s.in}
	if _, err := s.expect(frames, frameProceed, transferTimeout); err != nil {
		return err
	}
	if err := s.copy(data, args.Size); err != nil {
		return err
	}
	body, err := s.expect(frames, frameInstalled, installTimeout)
	if err != nil {
		return err
	}
	resp.Term, resp.Success, err = parseTermAnswer(&decoder{b: body}, frameInstalled)
	return err
}

// expect reads the other side's next frame, which must be of a kind.
func (s *stream) expect(frames *frameReader, want frameKind, timeout time.Duration) ([]byte, error) {
	if err := s.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	kind, body, err := frames.next()
	if err != nil {
		return nil, noEOF(err)
	}
	switch kind {
	case want:
		return body, nil
	case frameRefused:
		d := &decoder{b: body}
		text := d.bytes(textBytesMax)
		if err := d.end(kind); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", errNotThere, text)
	}
	return nil, fmt.Errorf("%w: kind %d, not %d", ErrFrame, kind, want)
}

// copy sends size bytes, each piece under a deadline.
func (s *stream) copy(data io.Reader, size int64) error {
	b := make([]byte, min(size, transferBytes))
	for size > 0 {
		n, err := io.ReadFull(data, b[:min(size, int64(len(b)))])
		if err != nil {
			return fmt.Errorf("link: read snapshot: %w", noEOF(err))
		}
		if err := s.writeAll(b[:n]); err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// paced reads under a deadline that each read renews.
type paced struct{ stream *stream }

func (p paced) Read(b []byte) (int, error) {
	if err := p.stream.SetReadDeadline(time.Now().Add(transferTimeout)); err != nil {
		return 0, err
	}
	return p.stream.in.Read(b)
}

// serveTransfer receives a snapshot and gives it to its group's replica.
func (h *Hub) serveTransfer(s *stream, hi *hello, request []byte) error {
	d := &decoder{b: request}
	key, err := parseRoute(d, frameRequest)
	if err != nil {
		return err
	}
	args := &hraft.InstallSnapshotRequest{}
	if err := parseInstall(d, args); err != nil {
		return err
	}
	if node, ok := h.options.NodeOf(key.source); !ok || node != hi.from {
		return fmt.Errorf("%w: node %d speaks for replica %q", ErrFrame, hi.from, key.source)
	}
	select {
	case h.receiving <- struct{}{}:
		defer func() { <-h.receiving }()
	default:
		return s.refuse("this node is receiving other snapshots")
	}
	t := h.transport(key.group)
	if t == nil || t.server != key.target {
		return s.refuse(fmt.Sprintf("replica %s of group %d is not here", key.target, key.group))
	}
	args.ID, args.Addr, args.Leader = []byte(key.source), []byte(key.source), []byte(key.source)
	return t.receive(s, args)
}

// receive lets the replica read the snapshot from the connection, and answers.
func (t *transport) receive(s *stream, args *hraft.InstallSnapshotRequest) error {
	defer context.AfterFunc(t.ctx, s.close)()
	answer := make(chan hraft.RPCResponse, 1)
	data := bufio.NewReaderSize(io.LimitReader(paced{s}, args.Size), int(min(max(args.Size, 16), transferBytes)))
	select {
	case t.consumer <- hraft.RPC{Command: args, Reader: data, RespChan: answer}:
	case <-t.closed:
		return s.refuse("the replica is stopping")
	}
	b, err := closeFrame(openFrame(nil, frameProceed), 0)
	if err == nil {
		err = s.writeAll(b)
	}
	if err != nil {
		s.close() // the replica's read ends with it
	}
	select {
	case r := <-answer:
		if err != nil {
			return err
		}
		a, ok := r.Response.(*hraft.InstallSnapshotResponse)
		if r.Error != nil || !ok {
			return s.refuse(fmt.Sprintf("not installed: %v", r.Error))
		}
		b, err := closeFrame(appendTermAnswer(openFrame(nil, frameInstalled), a.Term, a.Success), 0)
		return errors.Join(err, s.writeAll(b))
	case <-t.closed:
		return nil
	}
}

// refuse says why there will be no answer.
func (s *stream) refuse(text string) error {
	b := appendBytes(openFrame(nil, frameRefused), text[:min(len(text), textBytesMax)])
	b, err := closeFrame(b, 0)
	return errors.Join(err, s.writeAll(b))
}
