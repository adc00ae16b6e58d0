package raft

import (
	"errors"
	"io"
	"slices"
	"sync"

	hraft "github.com/hashicorp/raft"
)

// errStalled is what the network answers while this node's disk does not.
var errStalled = errors.New("raft: the log's disk is stalled")

// A Transport carries one group's messages between its replicas. Server addresses are
// server ids. It must not block a pipeline for ever, and must end every call that is
// under way when it is closed, the reading of a snapshot from its consumer too; calls may
// still begin meanwhile.
type Transport interface {
	hraft.Transport
	hraft.WithPreVote
	hraft.WithClose
}

// A prober is a Transport that lets heartbeats wait for other traffic, and so must be told of
// one whose answer somebody waits for.
type prober interface {
	Probe(id hraft.ServerID, target hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error
}

// A shipper is a pipeline that can send entries before the leader has written them itself, so
// that the disks of leader and followers work at the same time. The message that
// hashicorp/raft sends once the leader's write is durable is then answered by the answer to
// that one. Ship must not block; what it does not take goes the usual way. committed is what
// the leader knows to be committed.
type shipper interface {
	Ship(logs []*hraft.Log, committed uint64)
}

// A Network makes the transports of this node's groups.
type Network interface {
	// Transport returns the transport of this node's replica of a group, which the server
	// id names. The group closes it.
	Transport(group uint32, server string) (Transport, error)
}

// A carrier is a group's transport. It is closed once, though the library does so too, and
// before the library stops: that may wait for what is under way. It sends nothing while the log's disk is stalled, so
// that the other replicas elect another leader: hashicorp/raft's heartbeats come from a
// goroutine of their own and would go on.
type carrier struct {
	Transport
	stalled func() bool
	yield   func()      // to other candidates
	doubt   func() bool // waits a moment, and tells whether the leader is still doubted
	close   func() error

	mu       sync.Mutex
	shippers []shipper // of the pipelines that are open
}

// Close ends all that is under way.
func (c *carrier) Close() error { return c.close() }

func (c *carrier) AppendEntries(id hraft.ServerID, target hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	if c.stalled() {
		return errStalled
	}
	return c.Transport.AppendEntries(id, target, args, resp)
}

// probe sends a heartbeat at once.
func (c *carrier) probe(id hraft.ServerID, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	p, ok := c.Transport.(prober)
	if !ok || c.stalled() {
		return c.AppendEntries(id, hraft.ServerAddress(id), args, resp)
	}
	return p.Probe(id, hraft.ServerAddress(id), args, resp)
}

func (c *carrier) RequestVote(id hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestVoteRequest, resp *hraft.RequestVoteResponse) error {
	if c.stalled() {
		return errStalled
	}
	return c.Transport.RequestVote(id, target, args, resp)
}

func (c *carrier) RequestPreVote(id hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestPreVoteRequest, resp *hraft.RequestPreVoteResponse) error {
	for range doubtsMax {
		if c.stalled() {
			return errStalled
		}
		if err := c.Transport.RequestPreVote(id, target, args, resp); err != nil {
			return err
		}
		if resp.Granted {
			c.yield()
			return nil
		}
		// The other heard of the leader last, a little later, and does not doubt it yet. The
		// library would ask again after an election timeout.
		if !c.doubt() {
			return nil
		}
	}
	return nil
}

func (c *carrier) InstallSnapshot(id hraft.ServerID, target hraft.ServerAddress, args *hraft.InstallSnapshotRequest, resp *hraft.InstallSnapshotResponse, data io.Reader) error {
	if c.stalled() {
		return errStalled
	}
	return c.Transport.InstallSnapshot(id, target, args, resp, data)
}

// AppendEntriesPipeline is needed too: an idle pipeline carries the commit index, which
// followers take for a sign of life.
func (c *carrier) AppendEntriesPipeline(id hraft.ServerID, target hraft.ServerAddress) (hraft.AppendPipeline, error) {
	if c.stalled() {
		return nil, errStalled
	}
	p, err := c.Transport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := p.(shipper); ok {
		c.shippers = append(c.shippers, s)
	}
	return &carrierPipeline{p, c}, nil
}

// ship sends entries early to the followers that lack nothing else.
func (c *carrier) ship(logs []*hraft.Log, committed uint64) {
	if c.stalled() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.shippers {
		s.Ship(logs, committed)
	}
}

type carrierPipeline struct {
	hraft.AppendPipeline
	carrier *carrier
}

// Close ends the pipeline.
func (p *carrierPipeline) Close() error {
	p.carrier.mu.Lock()
	defer p.carrier.mu.Unlock()
	if s, ok := p.AppendPipeline.(shipper); ok {
		if i := slices.Index(p.carrier.shippers, s); i >= 0 {
			p.carrier.shippers = slices.Delete(p.carrier.shippers, i, i+1)
		}
	}
	return p.AppendPipeline.Close()
}

func (p *carrierPipeline) AppendEntries(args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	if p.carrier.stalled() {
		return nil, errStalled
	}
	return p.AppendPipeline.AppendEntries(args, resp)
}
