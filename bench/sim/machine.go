package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"parley/engine"
)

// Ports of a machine.
const (
	clientPort = 7000
	linkPort   = 7001
)

// openTimeout bounds the start of a node, in virtual time.
const openTimeout = 2 * time.Minute

// A Machine runs one node after another on its disk, and is crashed under them.
type Machine struct {
	name    string
	network *Network
	random  *rand.Rand
	setup   func(*engine.Config)  // what the run wants of the node
	cluster *engine.ClusterConfig // without its listener and dialler; nil: the node is alone
	log     func(format string, args ...any)
	logger  *slog.Logger

	mu      sync.Mutex
	disk    *Disk
	life    *life // nil: down
	lives   int
	skew    time.Duration
	problem error // why a node did not start on a whole disk
	flip    *Flip // in effect on the disk
	fatals  int
	disks   int            // that were lost
	lost    bool           // its disk, and no other node has its place yet
	graves  sync.WaitGroup // lives that are over and still run somewhere in the dark
	started chan struct{}  // closed and renewed when a node has opened or died
	hold    time.Time      // when it may start again
}

// A life is one process on a machine, from its start to its end.
type life struct {
	machine *Machine
	number  int
	host    *Host
	gate    *Gate
	disk    *Disk
	node    *engine.Node // once open
	opened  chan struct{}
	over    bool
	closing atomic.Bool
	ended   chan struct{} // closed when the node has closed
	err     error         // of closing; read it after ended
}

// close closes the node. Whoever comes second waits, but not for a mutex: that would stop
// virtual time.
func (l *life) close() error {
	if l.closing.Swap(true) {
		<-l.ended
		return l.err
	}
	defer close(l.ended)
	if l.node != nil {
		l.err = l.node.Close()
	}
	return l.err
}

// NewMachine makes a machine with an empty disk.
func NewMachine(name string, network *Network, random *rand.Rand, setup func(*engine.Config), log func(string, ...any), logger *slog.Logger) *Machine {
	return &Machine{name: name, network: network, random: random, setup: setup, log: log, logger: logger,
		disk: NewDisk(rand.New(rand.NewPCG(random.Uint64(), random.Uint64()))), started: make(chan struct{})}
}

// Address is where clients find the node.
func (m *Machine) Address() string { return fmt.Sprintf("%s:%d", m.name, clientPort) }

// Start begins a life, if none is under way. It does not wait for the node.
func (m *Machine) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != nil || m.lost {
		return
	}
	m.lives++
	l := &life{machine: m, number: m.lives, gate: NewGate(), disk: m.disk, opened: make(chan struct{}), ended: make(chan struct{})}
	l.disk.gate = l.gate
	l.host = m.network.Host(m.name, l.gate)
	m.life = l
	m.log("%s starts", m.name)
	m.graves.Go(l.run)
}

// run opens the node.
func (l *life) run() {
	defer close(l.opened)
	m := l.machine
	listener, err := l.host.Listen(clientPort)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
		defer cancel()
		config := engine.Config{Data: "data", FS: l.disk, Serve: Serve(listener, 2, l.gate), Fatal: l.fatal, Logger: m.logger, Now: m.now}
		m.setup(&config)
		l.link(&config)
		l.disk.SetOpening(l.fatal)
		l.node, err = engine.Open(ctx, config)
		l.disk.SetOpening(nil)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.over || m.life != l {
		return
	}
	if err != nil {
		m.problem = err
		m.log("%s does not start: %v", m.name, err)
		m.bury(l, false, 100)
	}
	m.signal()
}

// link makes the node one of several, if it is to be.
func (l *life) link(config *engine.Config) {
	if l.machine.cluster == nil {
		return
	}
	c := *l.machine.cluster
	c.Name, c.Dial, c.Advertise = l.machine.nodeName(), l.host.Dial, l.machine.LinkAddress()
	c.Bind = func() (net.Listener, error) { return l.host.Listen(linkPort) }
	config.Cluster = &c
}

// Join makes the machine's nodes part of a cluster: that of other nodes, or its own.
func (m *Machine) Join(others []string, token string) {
	m.cluster = &engine.ClusterConfig{Join: others, Token: token}
}

// LinkAddress is where other nodes find the node.
func (m *Machine) LinkAddress() string { return fmt.Sprintf("%s:%d", m.name, linkPort) }

// signal tells whoever waits for a change. mu is held.
func (m *Machine) signal() {
	close(m.started)
	m.started = make(chan struct{})
}

// now is the machine's wall clock.
func (m *Machine) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Add(m.skew)
}

// SetClock puts the wall clock off by so much.
func (m *Machine) SetClock(skew time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.skew = skew
}

// fatal is the end of a node that cannot keep its promises.
func (l *life) fatal(err error) {
	m := l.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.over {
		return
	}
	m.fatals++
	m.log("%s stops by itself: %v", m.name, err)
	// After a failed fsync nobody knows which pages the disk has.
	m.bury(l, false, m.random.IntN(101))
	m.signal()
}

// Crash ends the node in the middle of whatever it does: its process alone, which loses
// nothing that was written, or the whole machine, which loses some of what was not synced.
func (m *Machine) Crash(power bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life == nil {
		return
	}
	kept := 100
	if power {
		kept = m.random.IntN(101)
	}
	m.log("%s crashes: power %v, keeps %d %% of what was not synced", m.name, power, kept)
	m.bury(m.life, power, kept)
}

// bury ends a life. First nobody hears of it any more, then the disk is what it leaves. What
// still runs of the node works on in the dark until it has closed. mu is held.
func (m *Machine) bury(l *life, power bool, kept int) {
	l.over = true
	m.life = nil
	l.host.Kill(power)
	m.disk = l.disk.Crash(kept)
	m.graves.Go(func() {
		l.disk.SetSlow(0)
		l.gate.Open()
		<-l.opened
		_ = l.close() // of no interest: this node is dead
	})
}

// Stop closes the node as an operator does, with a short drain.
func (m *Machine) Stop(ctx context.Context) error {
	m.mu.Lock()
	l := m.life
	m.mu.Unlock()
	if l == nil || m.Node() == nil {
		return nil
	}
	m.log("%s is stopped", m.name)
	err := l.node.Drain(ctx)
	err = errors.Join(err, l.close())
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life == l {
		l.over = true
		m.life = nil
		l.host.Kill(false)
		m.disk = l.disk.Crash(100)
	}
	return err
}

// Hold keeps a machine that is down from being started for a while.
func (m *Machine) Hold(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hold = time.Now().Add(d)
}

// Supervise starts the node again if it is down and may start, on a whole disk.
func (m *Machine) Supervise() error {
	m.mu.Lock()
	due := m.life == nil && !m.lost && !time.Now().Before(m.hold)
	m.mu.Unlock()
	if !due {
		return nil
	}
	_, err := m.Repair()
	m.Hold(time.Second) // before the next attempt
	m.Start()
	return err
}

// Pause stops the process for a while, like SIGSTOP: as far as a goroutine can be stopped
// from outside, which is where it reads, writes or syncs.
func (m *Machine) Pause(d time.Duration) {
	m.mu.Lock()
	l := m.life
	m.mu.Unlock()
	if l == nil {
		return
	}
	m.log("%s pauses for %v", m.name, d)
	l.gate.Close()
	time.AfterFunc(d, l.gate.Open)
}

// Node is the node, once it is open and as long as it lives; nil otherwise.
func (m *Machine) Node() *engine.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.life
	if l == nil {
		return nil
	}
	select {
	case <-l.opened:
		return l.node
	default:
		return nil
	}
}

// Up waits until the node is open.
func (m *Machine) Up(ctx context.Context) (*engine.Node, error) {
	for {
		node := m.Node()
		m.mu.Lock()
		changed, down, problem, l := m.started, m.life == nil, m.problem, m.life
		m.mu.Unlock()
		switch {
		case node != nil:
			return node, nil
		case down:
			return nil, fmt.Errorf("sim: %s is down: %w", m.name, problem)
		}
		select {
		case <-changed:
		case <-l.opened:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Disk is the disk of the present life, or what the last one left.
func (m *Machine) Disk() *Disk {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != nil {
		return m.life.disk
	}
	return m.disk
}

// Damage flips a bit of the data while the machine is down.
func (m *Machine) Damage() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != nil || m.flip != nil {
		return nil
	}
	flip, err := m.disk.DrawFlip("data", m.random)
	if err != nil {
		return err
	}
	m.log("%s has a flipped bit: %v", m.name, flip)
	m.flip = &flip
	return m.disk.Flip(flip)
}

// Wipe loses the disk, with power and node, and puts in an empty one. The machine stays
// down until it is replaced.
func (m *Machine) Wipe() {
	m.Crash(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log("%s has lost its disk", m.name)
	m.disk = NewDisk(rand.New(rand.NewPCG(m.random.Uint64(), m.random.Uint64())))
	m.disks++
	m.flip = nil
	m.lost = true
}

// Replace lets another node begin on the empty disk.
func (m *Machine) Replace(others []string, token string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cluster = &engine.ClusterConfig{Join: others, Token: token}
	m.lost = false
	m.hold = time.Now()
}

// Lost reports whether the machine has no disk with anything on it, and stays down.
func (m *Machine) Lost() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

// nodeName is what the cluster calls the node: another one with each disk.
func (m *Machine) nodeName() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.disks == 0 {
		return m.name
	}
	return fmt.Sprintf("%s-%d", m.name, m.disks+1)
}

// Flipped reports whether a bit of the disk is not what was written, or was lately.
func (m *Machine) Flipped() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flip != nil
}

// Repair turns the flipped bit back, while the machine is down, as if the disk had been
// replaced by a copy from before. It reports whether there was one.
func (m *Machine) Repair() (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flip == nil || m.life != nil {
		return false, nil
	}
	flip := *m.flip
	m.flip, m.problem = nil, nil
	m.log("%s is repaired", m.name)
	return true, m.disk.Flip(flip)
}

// Bury waits until nothing of former lives runs any more.
func (m *Machine) Bury() { m.graves.Wait() }
