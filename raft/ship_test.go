package raft

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	hraft "github.com/hashicorp/raft"
)

// shippingNetwork lets leaders send entries before they have written them: each as a message
// of its own, at any time after, and then once more by the library. raft/link does better;
// what it does to replicas is this.
type shippingNetwork struct{ Network }

func (n shippingNetwork) Transport(group uint32, server string) (Transport, error) {
	t, err := n.Network.Transport(group, server)
	return &shippingTransport{Transport: t}, err
}

type shippingTransport struct{ Transport }

func (t *shippingTransport) AppendEntriesPipeline(id hraft.ServerID, target hraft.ServerAddress) (hraft.AppendPipeline, error) {
	p, err := t.Transport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return &shippingPipeline{AppendPipeline: p, transport: t, id: id, target: target}, nil
}

type shippingPipeline struct {
	hraft.AppendPipeline
	transport *shippingTransport
	id        hraft.ServerID
	target    hraft.ServerAddress

	mu   sync.Mutex
	tail hraft.AppendEntriesRequest
}

func (p *shippingPipeline) AppendEntries(args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	p.mu.Lock()
	p.tail = *args
	if n := len(args.Entries); n > 0 {
		p.tail.PrevLogEntry, p.tail.PrevLogTerm = args.Entries[n-1].Index, args.Entries[n-1].Term
	}
	p.mu.Unlock()
	return p.AppendPipeline.AppendEntries(args, resp)
}

// Ship implements shipper.
func (p *shippingPipeline) Ship(logs []*hraft.Log, committed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	args := p.tail
	if args.Term != logs[0].Term || args.PrevLogEntry+1 != logs[0].Index {
		return
	}
	args.LeaderCommitIndex = committed
	for _, l := range logs {
		entry := *l
		args.Entries = append(args.Entries, &entry)
	}
	// Fails with the network, or when the transport is closed.
	go func() { _ = p.transport.AppendEntries(p.id, p.target, &args, &hraft.AppendEntriesResponse{}) }()
}

// TestWhatALeaderHasNotWrittenIsNotCommitted stalls the leader's disk: both followers get
// the entry and write it, a majority, and still nobody counts it as committed.
func TestWhatALeaderHasNotWrittenIsNotCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := makeCluster(t, 1, 3)
		c.shipping = true
		c.start()
		defer c.close()
		eventually(t, "a leader", func() bool { return c.leader() != nil })
		leader := c.leader()
		leader.propose()
		eventually(t, "the first", func() bool { return len(c.applied()) == 1 })
		time.Sleep(2 * commitTimeout) // pipelines begin
		lasts := func() (lasts []uint64) {
			for _, m := range c.members {
				last, _ := m.group.log.LastIndex() // never fails
				lasts = append(lasts, last)
			}
			return lasts
		}
		before := lasts()
		defer leader.stalled.Store(false)
		leader.stalled.Store(true)
		leader.propose()
		time.Sleep(100 * time.Millisecond)
		for i, last := range lasts() {
			switch m := c.members[i]; {
			case m == leader && last != before[i]:
				t.Error("the leader has what it cannot write")
			case m != leader && last != before[i]+1:
				t.Errorf("%s has %d, had %d: nothing was shipped", m.server, last, before[i])
			}
		}
		if n := len(c.applied()); n != 1 {
			t.Errorf("%d entries are applied", n)
		}
		leader.stalled.Store(false)
		c.settle()
	})
}

// TestRandomFaultsWithShipping is TestRandomFaults with entries that followers have before
// their leader, which may lose them.
func TestRandomFaultsWithShipping(t *testing.T) {
	for seed := range rounds(10) {
		synctest.Test(t, func(t *testing.T) {
			c := makeCluster(t, uint64(seed)+1000, 3)
			c.shipping = true
			c.start()
			defer c.close()
			for range 12 {
				c.step()
			}
			c.settle()
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
