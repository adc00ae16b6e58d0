package sim

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"parley/engine"
	"parley/wire"
)

// A Config says what is simulated.
type Config struct {
	Seed     uint64
	Nodes    int
	Spares   int // machines that may join
	Shards   int
	Users    int
	Length   time.Duration // of the time with faults
	Faults   []Fault       // that may come
	Traffic  Traffic
	Window   int       // of a connection, in bytes
	Trailing int64     // bytes of the log that stay
	Verbose  io.Writer // gets the log of the nodes; nil: nobody
}

// DrawConfig draws a run from its seed: how many there are, how much they write, how long
// it takes.
func DrawConfig(seed uint64) Config {
	random := rand.New(rand.NewPCG(seed, 0x73696d))
	return Config{
		Seed: seed, Nodes: drawNodes(random), Spares: random.IntN(3), Shards: 1 + random.IntN(4), Users: 3 + random.IntN(3),
		Length: 30*time.Second + time.Duration(random.Int64N(int64(60*time.Second))),
		Faults: AllFaults(), Window: []int{512, 4096, WindowBytes}[random.IntN(3)],
		Trailing: []int64{500, 10_000, 1 << 20}[random.IntN(3)],
		Traffic: Traffic{
			Pause: 100*time.Millisecond + time.Duration(random.Int64N(int64(time.Second))), BodyMax: []int{20, 200, 4000}[random.IntN(3)],
			ReadPercent: random.IntN(101), Restart: []time.Duration{0, 15 * time.Second}[random.IntN(2)],
		},
	}
}

// AllFaults are the faults of a run that leaves none out.
func AllFaults() []Fault {
	list := make([]Fault, faults)
	for i := range list {
		list[i] = Fault(i)
	}
	return list
}

// A world is a run under way.
type world struct {
	config   Config
	random   *rand.Rand
	network  *Network
	machines []*Machine // of the cluster
	spares   []*Machine // that may join
	devices  []*device
	users    []wire.ID
	tokens   map[string]string
	recorder *Recorder
	logger   *slog.Logger
	base     Path

	mu    sync.Mutex // of what follows, and of machines and spares
	trace []string
	wiped bool // a machine has lost its disk

	quiet, end chan struct{}
	people     sync.WaitGroup
	timers     sync.WaitGroup
}

// A Result is what a run has shown.
type Result struct {
	Config     Config
	Plan       []Step
	Trace      []string
	History    *History
	Violations []Violation
	Virtual    time.Duration
	Fatals     int // nodes that stopped by themselves
	Lives      int // of all machines
}

// baseMargin is how long before the faults the tokens are signed: a clock that is put back
// by less leaves them good.
const baseMargin = 3 * time.Hour

// Run simulates one run. It must be called in a bubble of testing/synctest, and returns
// when nothing of it runs any more.
func Run(c Config) *Result {
	// The bubble begins in 2000, long before the epoch of the wire.
	time.Sleep(time.Until(time.UnixMilli(wire.Epoch).AddDate(0, 6, 0)))
	w := newWorld(c)
	if err := w.run(); err != nil {
		w.late("the run comes to no end: %v", err)
	}
	w.shutdown()
	r := &Result{Config: c, Trace: w.trace, History: w.recorder.History(), Virtual: w.recorder.Now()}
	for _, m := range w.members() {
		r.Fatals += m.fatals
		r.Lives += m.lives
	}
	r.Violations = Check(r.History)
	return r
}

func newWorld(c Config) *world {
	w := &world{config: c, random: source(c.Seed, "world"), tokens: make(map[string]string), recorder: NewRecorder(),
		logger: slog.New(slog.DiscardHandler), quiet: make(chan struct{}), end: make(chan struct{}),
		base: Path{Delay: 500 * time.Microsecond, Jitter: time.Millisecond}}
	if c.Verbose != nil {
		w.logger = slog.New(slog.NewTextHandler(c.Verbose, nil))
	}
	w.network = NewNetwork(c.Seed, w.base, c.Window)
	spares := c.Spares
	if c.Nodes == 1 {
		spares = 0 // a node that began alone stays alone here
	}
	for i := range c.Nodes + spares {
		name := fmt.Sprintf("node%d", i+1)
		m := NewMachine(name, w.network, source(c.Seed, name), w.setup, w.log, w.logger.With("node", name))
		if i < c.Nodes {
			w.machines = append(w.machines, m)
		} else {
			w.spares = append(w.spares, m)
		}
	}
	return w
}

func (w *world) setup(c *engine.Config) {
	c.Shards = w.config.Shards
	c.DiskReserveBytes = 64 << 20
	c.DrainSpread = time.Second
	c.Readers = 4
	c.FlushInterval = 2 * time.Second
	c.BufferBytesMax = 1 << 20
	c.CacheBytes = 1 << 20
	c.LogTrailingBytes = w.config.Trailing
}

func (w *world) log(format string, args ...any) {
	line := fmt.Sprintf("%9.3fs ", w.recorder.Now().Seconds()) + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, line)
	if w.config.Verbose != nil {
		fmt.Fprintln(w.config.Verbose, line)
	}
}

// run is the whole run: begin, harm, heal, come to rest, look.
func (w *world) run() error {
	if err := w.begin(); err != nil {
		return err
	}
	w.harm()
	if err := w.heal(); err != nil {
		return err
	}
	if err := w.rest(); err != nil {
		return err
	}
	return w.look()
}

// begin starts the nodes and makes the users.
func (w *world) begin() error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	first := w.members()[0]
	if len(w.members()) > 1 {
		first.Join(nil, "")
	}
	first.Start()
	node, err := first.Up(ctx)
	if err != nil {
		return err
	}
	for i := range w.config.Users {
		name := userName(i)
		id, err := node.CreateUser(ctx, name, nil)
		if err != nil {
			return fmt.Errorf("sim: create %s: %w", name, err)
		}
		w.users = append(w.users, id)
	}
	for i := range w.config.Users {
		for _, kind := range deviceKinds {
			if err := w.sign(ctx, node, userName(i), kind); err != nil {
				return err
			}
		}
	}
	// The tokens grow old while nothing runs: an idle hour of a cluster costs as much as a busy one.
	if err := first.Stop(ctx); err != nil {
		return err
	}
	time.Sleep(baseMargin)
	if err := w.form(); err != nil {
		return err
	}
	for i, user := range w.users {
		for _, kind := range deviceKinds[:1+w.random.IntN(2)] {
			d := w.device(userName(i), kind, user)
			w.devices = append(w.devices, d)
			w.people.Go(func() { d.run(w.quiet, w.end) })
		}
	}
	return nil
}

// form starts the nodes and makes them a cluster, with each shard on three of them.
func (w *world) form() error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	first := w.members()[0]
	first.Start()
	founder, err := first.Up(ctx)
	if err != nil {
		return err
	}
	for _, m := range w.members()[1:] {
		invitation, err := founder.Invite(ctx, time.Hour)
		if err != nil {
			return err
		}
		m.Join([]string{first.LinkAddress()}, invitation.Token)
		m.Start()
		if _, err := m.Up(ctx); err != nil {
			return err
		}
	}
	for len(w.members()) > 1 && !w.settled(ctx, founder) {
		if !pause(ctx, 100*time.Millisecond) {
			return fmt.Errorf("sim: the cluster does not form: %w", ctx.Err())
		}
	}
	return nil
}

// settled reports whether each shard has all of its replicas, as a node sees it.
func (w *world) settled(ctx context.Context, node *engine.Node) bool {
	shards, err := node.Shards(ctx)
	if err != nil {
		return false
	}
	for _, s := range shards {
		if !s.Settled || len(s.Replicas) != min(3, len(w.members())) {
			return false
		}
	}
	return true
}

// deviceKinds are the devices of a user; the last one is only there to look at the end.
var deviceKinds = []string{"phone", "desk", "judge"}

func userName(i int) string { return fmt.Sprintf("user%d", i+1) }

func (w *world) sign(ctx context.Context, node *engine.Node, user, kind string) error {
	id := wire.ID(source(w.config.Seed, user+kind).Uint64()>>16 | 1)
	token, err := node.Token(ctx, user, id, 12*time.Hour)
	if err != nil {
		return fmt.Errorf("sim: token for %s: %w", user, err)
	}
	w.tokens[user+"-"+kind] = token.Text
	return nil
}

// device makes a device; it does nothing yet.
func (w *world) device(user, kind string, id wire.ID) *device {
	name := user + "-" + kind
	d := &device{name: Device(name), user: id, token: w.tokens[name], peers: w.users, network: w.network, host: w.network.Host(name, nil),
		recorder: w.recorder, random: source(w.config.Seed, name), sources: source(w.config.Seed, name+" dials"), traffic: w.config.Traffic,
		reached: make(map[wire.Conversation]uint64)}
	for _, m := range w.members() {
		d.servers = append(d.servers, m.Address())
	}
	return d
}

// shutdown ends everything.
func (w *world) shutdown() {
	for _, c := range []chan struct{}{w.quiet, w.end} {
		if !closed(c) {
			close(c)
		}
	}
	w.calm()
	w.timers.Wait()
	w.people.Wait()
	for _, m := range w.members() {
		m.Crash(false)
		m.Bury()
	}
}

// Failure describes what went wrong, with all that it takes to look into it.
func (r *Result) Failure() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d violations; again: make sim SEED=%d\n", r.Config.Seed, len(r.Violations), r.Config.Seed)
	for _, line := range r.Trace {
		fmt.Fprintln(&b, line)
	}
	for i, v := range r.Violations {
		if i == 10 {
			fmt.Fprintf(&b, "and %d more\n", len(r.Violations)-i)
			break
		}
		fmt.Fprintln(&b, v)
	}
	if len(r.Violations) > 0 {
		r.History.Tell(&b, r.Violations[0].Conversation)
	}
	return b.String()
}

// drawNodes draws a node alone, or three, or seldom five; the environment may say.
func drawNodes(random *rand.Rand) int {
	n := []int{1, 3, 3, 3, 1, 3, 3, 5}[random.IntN(8)]
	fmt.Sscan(os.Getenv("NODES"), &n)
	return n
}

// seedName is the environment's name of a seed to replay.
const seedName = "SEED"

// seedGiven is the seed that the environment asks for, if any.
func seedGiven() (seed uint64, ok bool) {
	_, err := fmt.Sscan(os.Getenv(seedName), &seed)
	return seed, err == nil
}
