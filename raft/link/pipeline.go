package link

import (
	"errors"
	"fmt"
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"
)

// Errors of pipelines. hashicorp/raft goes back to single messages after one.
var (
	errPipelineBroken = errors.New("link: pipeline is broken")
	errPipelineFull   = errors.New("link: too many messages without an answer")
)

// A pipeline carries AppendEntries without waiting. It is bound to one connection. After the
// first that fails or is refused it takes no more, and it never blocks: a full one returns
// an error, too. Answers that fail are not delivered, since hashicorp/raft would take them
// for a sign of life.
type pipeline struct {
	transport *transport
	link      *link
	target    hraft.ServerAddress
	done      chan hraft.AppendFuture // capacity AppendsInFlightMax

	mu        sync.Mutex
	inFlight  int // not in done
	committed uint64
	broken    error
}

// AppendEntriesPipeline starts a pipeline on the connection that there is.
func (t *transport) AppendEntriesPipeline(_ hraft.ServerID, target hraft.ServerAddress) (hraft.AppendPipeline, error) {
	p, err := t.peerOf(target)
	if err != nil {
		return nil, err
	}
	l, _ := p.current()
	if l == nil {
		return nil, fmt.Errorf("%w: no link to node %d", ErrUnreachable, p.node)
	}
	return &pipeline{transport: t, link: l, target: target, done: make(chan hraft.AppendFuture, AppendsInFlightMax)}, nil
}

// AppendEntries sends a message. One without entries that tells nothing new is a sign of life and
// leaves with other traffic.
func (p *pipeline) AppendEntries(args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	f := &appendFuture{pipeline: p, start: time.Now(), args: args, resp: resp}
	p.mu.Lock()
	err := p.broken
	if err == nil && p.inFlight+len(p.done) >= AppendsInFlightMax {
		err = errPipelineFull
		p.broken = err
	}
	if err == nil && p.transport.isClosed() {
		err = ErrClosed
	}
	if err != nil {
		p.mu.Unlock()
		return nil, err
	}
	p.inFlight++
	prompt := len(args.Entries) > 0 || args.LeaderCommitIndex > p.committed
	p.committed = max(p.committed, args.LeaderCommitIndex)
	p.mu.Unlock()
	_, err = p.transport.send(p.link, p.target, f, appendKind(args), prompt, func(b []byte) []byte {
		return appendAppend(append(b, lazyFlag(prompt)), args)
	})
	if err != nil {
		f.fail(err)
		return nil, err
	}
	return f, nil
}

func (p *pipeline) Consumer() <-chan hraft.AppendFuture { return p.done }

// Close breaks the pipeline. Answers that still come are dropped.
func (p *pipeline) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = errPipelineBroken
	}
	return nil
}

// An appendFuture is a message of a pipeline on its way.
type appendFuture struct {
	pipeline *pipeline
	start    time.Time
	args     *hraft.AppendEntriesRequest
	resp     *hraft.AppendEntriesResponse
}

func (f *appendFuture) Error() error                           { return nil }
func (f *appendFuture) Start() time.Time                       { return f.start }
func (f *appendFuture) Request() *hraft.AppendEntriesRequest   { return f.args }
func (f *appendFuture) Response() *hraft.AppendEntriesResponse { return f.resp }

func (f *appendFuture) answer(kind frameKind, d *decoder) error {
	switch kind {
	case frameAppended:
		if err := parseAppended(d, f.resp); err != nil {
			return err
		}
	case frameRefused:
		text := d.bytes(textBytesMax)
		if err := d.end(kind); err != nil {
			return err
		}
		f.fail(fmt.Errorf("%w: %s", errNotThere, text))
		return nil
	default:
		return fmt.Errorf("%w: kind %d answers another question", ErrFrame, kind)
	}
	p := f.pipeline
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	if p.broken != nil {
		return nil // what was before a failure has been delivered
	}
	if !f.resp.Success {
		p.broken = errPipelineBroken
	}
	p.done <- f // there is room for all in flight
	return nil
}

func (f *appendFuture) fail(err error) {
	p := f.pipeline
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	if p.broken == nil {
		p.broken = fmt.Errorf("%w: %w", errPipelineBroken, err)
	}
}
