package link

import (
	"errors"
	"fmt"
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"

	"parley/raft"
)

// Errors of pipelines. hashicorp/raft goes back to single messages after one.
var (
	errPipelineBroken = errors.New("link: pipeline is broken")
	errPipelineFull   = errors.New("link: the peer's replica is slow")
)

// A pipeline carries AppendEntries without waiting for each answer. It is bound to one
// connection. After the first message that fails or is refused it takes no more, so that
// hashicorp/raft does not wait for ever.
//
// With AppendsInFlightMax unanswered it waits, but not for long. That is what makes batches: a
// replica whose disk is slower than the others' gets the entries that came meanwhile in one
// message, with one fsync.
//
// A message that failed is not delivered as answered: the library would take it for a sign
// of life.
type pipeline struct {
	transport *transport
	link      *link
	target    hraft.ServerAddress
	slots     chan struct{}           // capacity AppendsInFlightMax; one for each message without an answer
	done      chan hraft.AppendFuture // capacity doneMax
	ended     chan struct{}           // closed when broken is set

	mu        sync.Mutex
	last      *appendFuture              // sent last
	tail      hraft.AppendEntriesRequest // the message sent last, without entries: it would follow all that was sent
	early     []*parcel                  // sent by Ship, not yet by AppendEntries; one continues the other
	committed uint64                     // commit index that was sent
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
	return &pipeline{
		transport: t, link: l, target: target,
		slots: make(chan struct{}, AppendsInFlightMax),
		done:  make(chan hraft.AppendFuture, doneMax),
		ended: make(chan struct{}),
	}, nil
}

// AppendEntries sends a message. One without entries that tells nothing new is a sign of life and
// leaves with other traffic.
func (p *pipeline) AppendEntries(args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	f := &appendFuture{pipeline: p, start: time.Now(), args: args, resp: resp}
	if p.shipped(f) {
		return f, nil
	}
	if err := p.room(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	if err := p.broken; err != nil {
		p.mu.Unlock()
		return nil, err
	}
	p.last = f
	p.follow(args)
	prompt := len(args.Entries) > 0 || args.LeaderCommitIndex > p.committed
	p.committed = max(p.committed, args.LeaderCommitIndex)
	p.mu.Unlock()
	_, err := p.transport.send(p.link, p.target, f, appendKind(args), prompt, func(b []byte) []byte {
		return appendAppend(append(b, lazyFlag(prompt)), args)
	})
	if err != nil {
		f.fail(err)
		return nil, err
	}
	return f, nil
}

// room waits until fewer than AppendsInFlightMax messages are unanswered.
func (p *pipeline) room() error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(pipelineWait)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-p.ended:
		return p.failure()
	case <-p.transport.closed:
		return ErrClosed
	case <-timer.C:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.end(errPipelineFull)
		return errPipelineFull
	}
}

// end breaks the pipeline. mu is held.
func (p *pipeline) end(err error) {
	if p.broken == nil {
		p.broken = err
		close(p.ended)
	}
}

func (p *pipeline) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

func (p *pipeline) Consumer() <-chan hraft.AppendFuture { return p.done }

// Close breaks the pipeline. Answers that still come are dropped.
func (p *pipeline) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(errPipelineBroken)
	return nil
}

// deliver hands an answer over. mu is held. One that finds no room ends the pipeline, and
// hashicorp/raft asks again; it reads them as fast as they come.
func (p *pipeline) deliver(f *appendFuture) {
	select {
	case p.done <- f:
	default:
		p.end(errPipelineFull)
	}
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
	<-p.slots
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return nil // all that was before the failure has been delivered
	}
	p.deliver(f)
	switch {
	case !f.resp.Success:
		p.end(errPipelineBroken)
	case p.last == f && len(f.args.Entries) >= raft.EntriesAppendMax:
		p.behind(f)
	}
	return nil
}

// behind makes hashicorp/raft leave the pipeline. It sends one message for each entry that the
// leader appends and one each commit timeout, with at most EntriesAppendMax entries; a replica
// that lacks more when the load ends would get them over many seconds. A full message with
// none after it is a sign of that. Outside of a pipeline it sends all there is.
func (p *pipeline) behind(f *appendFuture) {
	p.end(errPipelineBroken)
	p.deliver(&appendFuture{pipeline: p, start: f.start, args: f.args, resp: &hraft.AppendEntriesResponse{}})
}

func (f *appendFuture) fail(err error) {
	p := f.pipeline
	<-p.slots
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(fmt.Errorf("%w: %w", errPipelineBroken, err))
}
