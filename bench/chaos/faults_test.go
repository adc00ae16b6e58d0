//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"parley/engine/admin"
)

// play has an episode happen, and returns when its operation is done and its faults are
// undone. An error says that the cluster did not get through the operation.
func (c *cluster) play(e episode) error {
	c.log("episode: %v of node %d (%d)", e.operation, e.node, e.amount)
	members := c.members()
	var harm sync.WaitGroup
	for _, s := range e.steps {
		harm.Go(func() {
			time.Sleep(s.after)
			c.inflict(s, members)
		})
	}
	err := c.operate(e)
	harm.Wait()
	if err != nil {
		return fmt.Errorf("%v: %w", e.operation, err)
	}
	return nil
}

// inflict makes a fault happen and undoes it after its time.
func (c *cluster) inflict(s step, members []*node) {
	n := members[s.node%len(members)]
	peer := members[(s.node%len(members)+1+s.peer%(len(members)-1))%len(members)]
	if s.fault == faultLeader {
		if l := c.leader(); l != nil {
			n = l
		}
	}
	c.log("%v: %s (peer %s) for %v", s.fault, n.name, peer.name, s.length)
	defer c.log("%v: %s (peer %s) is over", s.fault, n.name, peer.name)
	switch s.fault {
	case faultKill, faultLeader:
		c.down(s, (*node).kill, n)
	case faultAll:
		c.down(s, (*node).kill, members...)
	case faultStop:
		c.down(s, func(n *node) {
			if err := n.stop(); err != nil {
				c.t.Error(err)
			}
		}, n)
	case faultPause:
		n.pause()
		time.Sleep(s.length)
		n.resume()
	case faultTransfer:
		c.transfer(s, peer)
	default:
		c.disturb(s, n, peer)
	}
}

// down ends nodes and starts them after the fault's time. Those that are down already, or
// that an operation has taken meanwhile, are left alone.
func (c *cluster) down(s step, end func(*node), nodes ...*node) {
	var ended []*node
	for _, n := range nodes {
		if n.busy.TryLock() {
			ended = append(ended, n)
		}
	}
	var ending sync.WaitGroup
	for _, n := range ended {
		ending.Go(func() { end(n) })
	}
	ending.Wait()
	time.Sleep(s.length)
	for _, n := range ended {
		if err := n.again(); err != nil {
			c.t.Error(err)
		}
		n.busy.Unlock()
	}
}

// transfer asks for another leader of a shard; it may be refused.
func (c *cluster) transfer(s step, to *node) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if err := to.operator().TransferShard(ctx, uint32(s.amount%4), to.name); err != nil {
		c.log("shard %d is not led by %s: %v", s.amount%4, to.name, err)
	}
}

// disturb cuts what nodes and clients hear.
func (c *cluster) disturb(s step, n, peer *node) {
	type rule struct{ set, unset func() error }
	var rules []rule
	deaf := func(p *place, ip string) {
		rules = append(rules, rule{func() error { return p.deafen(ip) }, func() error { return p.listen(ip) }})
	}
	mute := func(p *place, ip string) {
		rules = append(rules, rule{func() error { return p.mute(ip) }, func() error { return p.speak(ip) }})
	}
	others := []string{peer.place.ip}
	switch s.fault {
	case faultIsolate, faultDeaf, faultMute:
		others = nil
		for _, other := range c.nodes {
			if other != n {
				others = append(others, other.place.ip)
			}
		}
	case faultClients, faultSilent:
		others = []string{c.network.host}
	}
	hears, speaks := true, true
	switch s.fault {
	case faultOneWay, faultSilent:
		hears = s.amount%2 == 0
		speaks = !hears
	case faultDeaf:
		speaks = false
	case faultMute:
		hears = false
	}
	for _, ip := range others {
		if hears {
			deaf(n.place, ip)
		}
		if speaks {
			mute(n.place, ip)
		}
	}
	for _, r := range rules {
		if err := r.set(); err != nil {
			c.t.Error(err)
		}
	}
	time.Sleep(s.length)
	for _, r := range rules {
		if err := r.unset(); err != nil {
			c.t.Error(err)
		}
	}
}

// operate does what an operator does. Data of one node may be lost only when all others
// have theirs, so operations that lose some begin with a cluster at rest.
func (c *cluster) operate(e episode) error {
	members := c.members()
	n := members[e.node%len(members)]
	switch e.operation {
	case operationWipe:
		return c.wipe(n, e.amount)
	case operationFlip:
		return c.flip(n, e.amount)
	case operationRestart, operationUpgrade:
		return c.roll(members, e)
	case operationReplace:
		return c.replace(n)
	}
	return nil
}

// wipe takes a node's disk away, and has it join by invitation, as the operations guide says.
func (c *cluster) wipe(n *node, amount int) error {
	if err := c.settled(); err != nil {
		return err
	}
	n.busy.Lock()
	defer n.busy.Unlock()
	n.kill()
	if err := os.RemoveAll(n.dir); err != nil {
		return err
	}
	c.log("%s is wiped", n.name)
	// Whoever removes the dead node first gives its shards away at once; whoever does not has
	// the new node take the place of the one at its address.
	if amount%2 == 0 {
		if _, err := c.command(n, "node", "remove", n.name); err != nil {
			return err
		}
		c.log("%s is removed", n.name)
	}
	return c.join(n)
}

// flip changes a bit in the log or state of a stopped node, which must notice, at its start
// or when it reads there, and join again as a new node.
func (c *cluster) flip(n *node, amount int) error {
	if err := c.settled(); err != nil {
		return err
	}
	n.busy.Lock()
	defer n.busy.Unlock()
	if amount%3 == 0 {
		n.kill()
	} else if err := n.stop(); err != nil {
		return err
	}
	var files []string
	for _, part := range []string{"log", "state"} {
		err := filepath.WalkDir(filepath.Join(n.dir, part), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if info, err := d.Info(); err == nil && info.Size() > 0 {
					files = append(files, path)
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	path := files[amount/3%len(files)]
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at := amount / 7 % len(content)
	content[at] ^= 1 << (amount % 8)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	n.mu.Lock()
	n.flipped = true
	n.mu.Unlock()
	c.log("%s: bit %d of byte %d of %d of %s is flipped", n.name, amount%8, at, len(content), path)
	if err := n.start(); err != nil {
		return err
	}
	if err := n.awaitServing(); err != nil {
		return err
	}
	return c.settled()
}

// roll stops and starts one node after the other, with another program if that is asked.
func (c *cluster) roll(members []*node, e episode) error {
	list := slices.Clone(members)
	first := e.node % len(list)
	list = append(list[first:], list[:first]...)
	program := list[0].program
	if e.operation == operationUpgrade {
		now := slices.Index(versions, filepath.Base(program))
		var err error
		if program, err = build(versions[(now+1)%len(versions)]); err != nil {
			return err
		}
	}
	for _, n := range list {
		err := func() error {
			n.busy.Lock()
			defer n.busy.Unlock()
			if err := n.stop(); err != nil {
				return err
			}
			n.program = program
			if err := n.start(); err != nil {
				return err
			}
			return n.awaitServing()
		}()
		if err == nil {
			err = c.settled()
		}
		if err != nil {
			return err
		}
		c.log("%s runs %s", n.name, filepath.Base(program))
	}
	return nil
}

// replace puts a new node in the place of an old one.
func (c *cluster) replace(old *node) error {
	at := slices.IndexFunc(c.nodes, func(n *node) bool { return !n.member })
	if at < 0 {
		return errors.New("chaos: no place is free")
	}
	fresh := c.nodes[at]
	fresh.program = old.program
	if err := os.RemoveAll(fresh.dir); err != nil {
		return err
	}
	if err := c.join(fresh); err != nil {
		return err
	}
	c.log("%s has joined", fresh.name)
	old.busy.Lock()
	defer old.busy.Unlock()
	old.signal(0, true) // it stops by itself when it holds nothing
	if _, err := c.command(old, "node", "drain", old.name); err != nil {
		return err
	}
	if err := old.stop(); err != nil {
		return err
	}
	old.member = false
	if _, err := c.command(old, "node", "remove", old.name); err != nil {
		return err
	}
	c.log("%s is removed", old.name)
	return c.settled()
}

// heal ends all that may still be wrong, and waits until every shard is served as it should be.
func (c *cluster) heal() error {
	for _, n := range c.nodes {
		if err := n.place.heal(); err != nil {
			return err
		}
		n.resume()
	}
	for _, n := range c.members() {
		if err := n.awaitServing(); err != nil {
			return err
		}
	}
	return c.settled()
}

// led makes a node lead every shard.
func (c *cluster) led(n *node) error {
	return c.ask(func(ctx context.Context, _ *node, o *admin.Client) error {
		shards, err := o.Shards(ctx)
		if err != nil {
			return err
		}
		for _, s := range shards {
			if s.Leader == n.name {
				continue
			}
			if err = o.TransferShard(ctx, s.ID, n.name); err == nil {
				err = fmt.Errorf("chaos: shard %d is led by %q, not %s", s.ID, s.Leader, n.name)
			}
		}
		return err
	})
}
