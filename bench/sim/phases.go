package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"parley/engine/admin"
	"parley/engine/router"
	"parley/wire"
	"parley/wire/client"
)

const (
	// commitWithin is how soon after the last fault every shard must commit.
	commitWithin = 5 * time.Second
	// restWithin bounds the time until every client has heard everything: it waits up to a
	// minute between two attempts to connect, and may have to time out before.
	restWithin = 5 * time.Minute
	// diskReserve is what the nodes keep free.
	diskReserve = 64 << 20
)

// harm lets the faults of the plan happen.
func (w *world) harm() {
	plan := DrawPlan(source(w.config.Seed, "plan"), w.config.Length, len(w.members()), len(w.devices), w.config.Faults)
	stop := make(chan struct{})
	w.timers.Go(func() { w.supervise(stop) })
	begin := time.Now()
	for _, s := range plan {
		w.timers.Go(func() {
			time.Sleep(s.At - time.Since(begin))
			w.log("%v", s)
			w.inflict(s)
		})
	}
	time.Sleep(w.config.Length)
	close(stop)
}

// supervise starts nodes that are down, as a service manager does, until stop. It goes on
// afterwards in heal.
func (w *world) supervise(stop <-chan struct{}) {
	for !closed(stop) {
		for _, m := range w.members() {
			if err := m.Supervise(); err != nil {
				w.log("%s cannot be repaired: %v", m.name, err)
			}
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// inflict makes one fault happen and, after its time, undoes it.
func (w *world) inflict(s Step) {
	m := w.members()[s.Node]
	switch s.Fault {
	case FaultKill, FaultPower:
		m.Hold(s.For / 4)
		m.Crash(s.Fault == FaultPower)
	case FaultStop, FaultFlip:
		m.Hold(s.For + time.Minute)
		if err := m.Stop(context.Background()); err != nil {
			w.log("%s: stop: %v", m.name, err)
		}
		if s.Fault == FaultFlip && !w.damaged() {
			if err := m.Damage(); err != nil {
				w.log("%s: flip: %v", m.name, err)
			}
		}
		m.Hold(s.For / 4)
	case FaultBlackout:
		for _, m := range w.members() {
			m.Hold(s.For / 4)
			m.Crash(true)
		}
	case FaultTransfer, FaultMove, FaultDrain, FaultJoin, FaultWipe:
		w.operate(s)
	case FaultPause:
		m.Pause(s.For)
		time.Sleep(s.For)
	case FaultSync:
		m.Disk().Fail(OperationSync, s.Amount%50)
	case FaultWrite:
		m.Disk().Fail(OperationWrite, s.Amount%100)
	case FaultSlow:
		m.Disk().SetSlow(time.Duration(100+s.Amount%4900) * time.Millisecond)
		time.Sleep(s.For)
		m.Disk().SetSlow(0)
	case FaultNearFull, FaultFull:
		free := int64(diskReserve / 2)
		if s.Fault == FaultFull {
			free = int64(s.Amount % (64 << 10))
		}
		m.Disk().SetFree(free)
		time.Sleep(s.For)
		m.Disk().SetFree(-1)
	case FaultClock:
		m.SetClock(time.Duration(s.Amount%7200-3600) * time.Second)
		time.Sleep(s.For)
		m.SetClock(0)
	default:
		w.disturb(m, s)
	}
}

// others are the hosts that a fault of the network keeps from a node.
func (w *world) others(s Step) (hosts []string) {
	for i, m := range w.members() {
		if s.Peer >= 0 && i != s.Node && (s.Peer == i || s.Peer == s.Node) {
			hosts = append(hosts, m.name)
		}
	}
	for i, d := range w.devices {
		if s.Peer < 0 && (s.Device < 0 || s.Device == i) {
			hosts = append(hosts, string(d.name))
		}
	}
	return hosts
}

// damaged reports whether a machine has a flipped bit: a second one could be the majority.
func (w *world) damaged() bool {
	for _, m := range w.members() {
		if m.Flipped() {
			return true
		}
	}
	return false
}

// disturb makes a fault of the network happen, between a node and one device or all.
func (w *world) disturb(m *Machine, s Step) {
	hosts := w.others(s)
	both := func(there, back Path) {
		for _, host := range hosts {
			w.network.Set(host, m.name, there)
			w.network.Set(m.name, host, back)
		}
	}
	cut := w.base
	cut.Cut = true
	switch s.Fault {
	case FaultReset:
		for _, host := range hosts {
			w.network.Reset(m.name, host)
		}
		return
	case FaultCut:
		both(cut, cut)
	case FaultOneWay:
		if s.Amount%2 == 0 {
			both(cut, w.base)
		} else {
			both(w.base, cut)
		}
	case FaultFlap:
		for until := time.Now().Add(s.For); time.Now().Before(until); {
			both(cut, cut)
			time.Sleep(time.Duration(200+s.Amount%1800) * time.Millisecond)
			both(w.base, w.base)
			time.Sleep(time.Duration(200+s.Amount/7%1800) * time.Millisecond)
		}
	case FaultLossy:
		bad := Path{Delay: time.Duration(s.Amount%300) * time.Millisecond, Jitter: time.Duration(1+s.Amount%100) * time.Millisecond,
			LossPercent: s.Amount % 30, BytesPerSecond: 2000 + s.Amount%50_000}
		both(bad, bad)
	}
	time.Sleep(s.For)
	both(w.base, w.base)
}

// calm ends all faults at once.
func (w *world) calm() {
	w.timers.Wait()
	for _, m := range w.members() {
		for _, d := range w.devices {
			w.network.Set(string(d.name), m.name, w.base)
			w.network.Set(m.name, string(d.name), w.base)
		}
		for _, other := range w.members() {
			w.network.Set(other.name, m.name, w.base)
		}
		m.SetClock(0)
		disk := m.Disk()
		disk.SetFree(-1)
		disk.SetSlow(0)
		disk.Heal()
		m.Hold(0)
	}
}

// heal ends the faults, and sees whether every shard commits in time.
func (w *world) heal() error {
	w.calm()
	w.log("all is well")
	for _, m := range w.members() {
		if err := m.Supervise(); err != nil {
			return err
		}
	}
	stop := make(chan struct{})
	w.timers.Go(func() { w.supervise(stop) }) // a latent flipped bit may still be found
	w.probe()
	close(stop)
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	for _, m := range w.members() {
		if m.Lost() {
			continue
		}
		if _, err := m.Up(ctx); err != nil {
			w.late("%s does not start: %v", m.name, err)
		}
	}
	return nil
}

func (w *world) late(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.log("%s", text)
	w.recorder.Add(func(h *History) { h.Late = append(h.Late, text) })
}

// probe has each shard commit something in time: the account of a user that lives there.
func (w *world) probe() {
	ctx, cancel := context.WithTimeout(context.Background(), commitWithin)
	defer cancel()
	table, err := router.NewTable(w.config.Shards)
	if err != nil {
		w.late("%v", err)
		return
	}
	var probing sync.WaitGroup
	for shard := range w.config.Shards {
		name := ""
		for n := 0; name == ""; n++ {
			probe := fmt.Sprintf("probe%d", n)
			if table.Shard(wire.SlotOf([]byte(probe))) == shard {
				name = probe
			}
		}
		probing.Go(func() {
			if err := w.commits(ctx, name); err != nil {
				w.late("shard %d does not commit: %v", shard, err)
			}
		})
	}
	probing.Wait()
}

// commits makes an account through any node until one has.
func (w *world) commits(ctx context.Context, name string) (err error) {
	err = errors.New("sim: no node is up")
	for {
		for _, m := range w.members() {
			node := m.Node()
			if node == nil {
				continue
			}
			// One that was made by an attempt without an answer is there too.
			if _, err = node.CreateUser(ctx, name, nil); err == nil || errors.Is(err, admin.ErrNameTaken) {
				return nil
			}
		}
		if !pause(ctx, 50*time.Millisecond) {
			return err
		}
	}
}

// rest lets the clients come to rest, and notes how far each has got.
func (w *world) rest() error {
	stop := make(chan struct{})
	defer close(stop)
	w.timers.Go(func() { w.supervise(stop) })
	time.Sleep(3 * time.Second)
	close(w.quiet)
	deadline := time.Now().Add(restWithin)
	for time.Now().Before(deadline) && !w.answered() {
		time.Sleep(time.Second)
	}
	finals, err := w.judge("after healing")
	if err != nil {
		w.late("nobody can read: %v", err)
		return nil
	}
	heads := make(map[wire.ID]map[wire.Conversation]uint64)
	for _, f := range finals {
		if heads[f.User] == nil {
			heads[f.User] = make(map[wire.Conversation]uint64)
		}
		heads[f.User][f.Conversation] = f.State.Head
	}
	var online []Online
	for {
		served := true
		online = online[:0]
		for _, d := range w.devices {
			o := d.online()
			for c, head := range heads[d.user] {
				if o.Reached[c] < head {
					o.Problems = append(o.Problems, fmt.Sprintf("%s: it has %d of %d", conversationName(c), o.Reached[c], head))
				}
			}
			served = served && len(o.Problems) == 0
			online = append(online, o)
		}
		if served || !time.Now().Before(deadline) {
			break
		}
		time.Sleep(time.Second)
	}
	w.recorder.Add(func(h *History) { h.Online = online })
	return nil
}

// answered reports whether every send has its outcome.
func (w *world) answered() bool {
	all := true
	w.recorder.Add(func(h *History) {
		for i := range h.Sends {
			all = all && h.Sends[i].Returned != 0
		}
	})
	return all
}

// look takes the power from all nodes at once, and reads everything again.
func (w *world) look() error {
	for _, m := range w.members() {
		m.Crash(true)
	}
	for _, m := range w.members() {
		m.Start()
	}
	if _, err := w.judge("after all lost power"); err != nil {
		w.late("nobody can read any more: %v", err)
		return nil
	}
	close(w.end)
	w.people.Wait()
	return w.compare()
}

// judge reads everything as each user.
func (w *world) judge(stage string) ([]Final, error) {
	w.log("everything is read %s", stage)
	ctx, cancel := context.WithTimeout(context.Background(), restWithin)
	defer cancel()
	var finals []Final
	for i, user := range w.users {
		d := w.device(userName(i), "judge", user)
		list, err := d.judge(ctx, stage)
		d.host.Kill(false)
		if err != nil {
			return nil, fmt.Errorf("sim: %s: %w", d.name, err)
		}
		finals = append(finals, list...)
	}
	w.recorder.Add(func(h *History) { h.Finals = append(h.Finals, finals...) })
	return finals, nil
}

// judge reads all conversations of a user from their beginnings.
func (d *device) judge(ctx context.Context, stage string) ([]Final, error) {
	began := d.recorder.Now()
	options := d.options()
	options.ManualDelivered = true
	c, err := client.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	live := make(chan struct{})
	go func() {
		done := false
		for e := range c.Events() {
			if e, ok := e.(*client.ConnectionEvent); ok && e.State == client.Live && !done {
				done = true
				close(live)
			}
		}
	}()
	select {
	case <-live:
	case <-ctx.Done():
		return nil, fmt.Errorf("sim: it does not become live: %w", ctx.Err())
	}
	var finals []Final
	for _, state := range c.Conversations() {
		f := Final{Stage: stage, At: began, User: d.user, Conversation: state.Ref.Conversation(d.user), State: state}
		for more := true; more; {
			after := uint64(0)
			if n := len(f.Entries); n > 0 {
				after = f.Entries[n-1].Sequence
			}
			page, err := c.History(ctx, wire.History{Ref: state.Ref, Sequence: after, Mode: wire.HistoryForward, Limit: 100})
			if err != nil {
				return nil, err
			}
			f.Entries = append(f.Entries, entriesOf(&page)...)
			more = page.Flags&wire.PageMoreAfter != 0 && len(page.Messages) > 0
		}
		finals = append(finals, f)
	}
	return finals, nil
}
