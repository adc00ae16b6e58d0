//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"parley/bench/sim"
	"parley/wire"
	"parley/wire/client"
)

// A person is one device of a user with the real client, which starts its program again
// now and then. Some keep their outbox in a file, which outlives the program.
type person struct {
	name     sim.Device
	user     wire.ID
	token    string
	peers    []wire.ID
	servers  []string // host:port of every node
	outbox   string   // a file; empty: memory
	recorder *sim.Recorder
	random   *rand.Rand // of run
	pause    time.Duration

	mu      sync.Mutex
	dice    *rand.Rand // of dials, which are on other goroutines
	conns   int
	life    int
	reached map[wire.Conversation]uint64
	state   client.ConnectionState
	places  map[string]int // in the history, of sends by their bodies
	orders  map[wire.Conversation]int
	pending sync.WaitGroup
	number  int
}

// anywhere is the address of no node: a client that is sent nowhere in particular connects
// to any of them.
const anywhere = "anywhere.invalid:80"

// restartMean is the time between two starts of a person's program, on average.
const restartMean = 20 * time.Second

func (p *person) gap(format string, args ...any) {
	text := fmt.Sprintf("%s: ", p.name) + fmt.Sprintf(format, args...)
	p.recorder.Add(func(h *sim.History) { h.Gaps = append(h.Gaps, text) })
}

// dial connects where the client was sent, or to any node.
func (p *person) dial(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	p.conns++
	number := p.conns
	if address == anywhere {
		address = p.servers[p.dice.IntN(len(p.servers))]
	}
	p.mu.Unlock()
	d := net.Dialer{Timeout: 2 * time.Second, KeepAlive: -1}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return sim.Listen(conn, p.recorder, p.name, p.user, number), nil
}

func (p *person) options() (client.Options, error) {
	o := client.Options{Address: "ws://" + anywhere, Dial: p.dial, Name: string(p.name), Foreground: true,
		Token: func(context.Context) (string, error) { return p.token, nil }}
	if p.random.IntN(2) == 0 {
		o.Begin = client.BeginDelivered
	}
	if p.outbox == "" {
		return o, nil
	}
	var err error
	o.Outbox, err = client.OpenFileOutbox(p.outbox)
	return o, err
}

// run uses the program until quiet is closed, then goes on listening until end is.
func (p *person) run(quiet, end <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-end; cancel() }()
	for ctx.Err() == nil {
		p.mu.Lock()
		p.life++
		p.reached, p.state = make(map[wire.Conversation]uint64), client.Offline
		if p.outbox == "" {
			p.orders = make(map[wire.Conversation]int)
		}
		p.mu.Unlock()
		o, err := p.options()
		if err != nil {
			p.gap("its outbox does not open: %v", err)
			return
		}
		c, err := client.Open(ctx, o)
		if err != nil {
			if ctx.Err() == nil {
				p.gap("the server refuses for good: %v", err)
			}
			return
		}
		p.use(ctx, c, quiet)
		p.pending.Wait()
	}
}

// use is one life of the program.
func (p *person) use(ctx context.Context, c *client.Client, quiet <-chan struct{}) {
	var listening sync.WaitGroup
	listening.Go(func() { p.listen(c) })
	defer listening.Wait()
	defer c.Close()
	for _, pending := range c.Restored() {
		p.resume(pending)
	}
	restart := time.After(exponential(p.random, restartMean))
	for {
		select {
		case <-ctx.Done():
			return
		case <-quiet:
			<-ctx.Done()
			return
		case <-restart:
			return
		case <-time.After(exponential(p.random, p.pause)):
		}
		switch p.random.IntN(8) {
		case 0:
			p.read(ctx, c, p.peers[p.random.IntN(len(p.peers))])
		default:
			for range 1 + p.random.IntN(4) {
				p.send(c, p.peers[p.random.IntN(len(p.peers))])
			}
		}
	}
}

// exponential draws a time with a mean, at most ten times as long.
func exponential(random *rand.Rand, mean time.Duration) time.Duration {
	return min(time.Duration(random.ExpFloat64()*float64(mean)), 10*mean)
}

// send queues a message.
func (p *person) send(c *client.Client, peer wire.ID) {
	conversation := wire.DirectConversation(p.user, peer)
	p.number++
	size := p.random.IntN(41)
	if p.random.IntN(16) == 0 {
		size = p.random.IntN(4000)
	}
	body := fmt.Sprintf("%s/%d ", p.name, p.number) + strings.Repeat(string(rune('a'+p.number%26)), size)
	life := 0
	if p.outbox == "" {
		life = p.life
	}
	p.orders[conversation]++
	place := p.recorder.Send(sim.Send{Device: p.name, Author: p.user, Conversation: conversation, Body: body, Life: life, Order: p.orders[conversation]})
	p.places[body] = place
	pending, err := c.Queue(wire.DirectRef(peer), wire.Text(body))
	if err != nil {
		p.outcome(place, 0, err)
		return
	}
	p.await(place, pending)
}

// resume takes a send that an earlier life of the program has queued.
func (p *person) resume(pending *client.Pending) {
	place, ok := p.places[sim.BodyOf(pending.Content())]
	if !ok {
		p.gap("the outbox has a message that was never sent: %q", sim.BodyOf(pending.Content()))
		return
	}
	p.await(place, pending)
}

// await notes the outcome of a send when it comes.
func (p *person) await(place int, pending *client.Pending) {
	p.pending.Go(func() {
		<-pending.Done()
		sent, err := pending.Result()
		p.outcome(place, sent.Sequence, err)
	})
}

// outcome notes what became of a send. One that ends with the program goes on in the next
// life if a file has it. Any other failure is one that a client which retries must not see.
func (p *person) outcome(place int, sequence uint64, err error) {
	switch {
	case errors.Is(err, client.ErrClosed) && p.outbox != "":
		return
	case err != nil && !errors.Is(err, client.ErrClosed) && !errors.Is(err, client.ErrOutboxFull):
		p.gap("a send failed: %v", err)
	}
	p.recorder.Return(place, sim.OutcomeOf(err), sequence, err)
}

// read reads the last page of a conversation.
func (p *person) read(ctx context.Context, c *client.Client, peer wire.ID) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r := sim.Read{Device: p.name, User: p.user, Conversation: wire.DirectConversation(p.user, peer), Called: p.recorder.Now()}
	page, err := c.History(ctx, wire.History{Ref: wire.DirectRef(peer), Mode: wire.HistoryBackward, Limit: 50})
	if err != nil {
		return // not in time, or there is no such conversation yet
	}
	r.Returned, r.Head, r.Entries = p.recorder.Now(), page.Head, sim.EntriesOf(&page)
	p.recorder.Add(func(h *sim.History) { h.Reads = append(h.Reads, r) })
}

// listen takes the events of a life.
func (p *person) listen(c *client.Client) {
	random := rand.New(rand.NewPCG(uint64(p.life), uint64(p.user)))
	for e := range c.Events() {
		now := p.recorder.Now()
		switch e := e.(type) {
		case *client.MessageEvent:
			conversation := e.Ref.Conversation(p.user)
			seen := sim.Seen{Entry: sim.Entry{Sequence: e.Sequence, Author: e.Author, Time: e.Time, Body: sim.BodyOf(e.Content)},
				Device: p.name, Life: p.life, User: p.user, Conversation: conversation, At: now}
			p.recorder.Add(func(h *sim.History) { h.Handed = append(h.Handed, seen) })
			p.reach(conversation, e.Sequence)
			if random.IntN(2) == 0 {
				_ = c.Read(e.Ref, e.Sequence) // the client may be closing
			}
		case *client.ReceiptEvent:
			moved := sim.Moved{Device: p.name, Life: p.life, User: p.user, Conversation: e.Ref.Conversation(p.user), Kind: e.Kind, Position: e.Position, At: now}
			p.recorder.Add(func(h *sim.History) { h.Moved = append(h.Moved, moved) })
		case *client.ConversationEvent:
			if e.First {
				p.reach(e.State.Ref.Conversation(p.user), e.Begin)
			}
		case *client.GapEvent:
			p.gap("messages %d to %d of %d cannot be had: %v", e.From, e.To, e.Ref, e.Err)
		case *client.ConnectionEvent:
			p.mu.Lock()
			p.state = e.State
			p.mu.Unlock()
			if e.State == client.Closed && e.Err != nil {
				p.gap("sent away for good: %v", e.Err)
			}
		}
	}
}

func (p *person) reach(c wire.Conversation, sequence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reached[c] = sequence
}

// online tells how far the device has got.
func (p *person) online() sim.Online {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := sim.Online{Device: p.name, User: p.user, Reached: make(map[wire.Conversation]uint64)}
	for c, sequence := range p.reached {
		o.Reached[c] = sequence
	}
	if p.state != client.Live {
		o.Problems = append(o.Problems, fmt.Sprintf("it is %v", p.state))
	}
	return o
}

// A crowd is all the people of a run.
type crowd struct {
	recorder   *sim.Recorder
	people     []*person
	judges     []*person
	quiet, end chan struct{}
	running    sync.WaitGroup
}

// tokenLifetime is longer than any run.
const tokenLifetime = 12 * time.Hour

// newCrowd makes users with one or two devices each, and has them chat.
func newCrowd(c *cluster, seed uint64, users int, pause time.Duration) (*crowd, error) {
	w := &crowd{recorder: sim.NewRecorder(), quiet: make(chan struct{}), end: make(chan struct{})}
	o := c.nodes[0].operator()
	var servers []string
	for _, n := range c.nodes {
		servers = append(servers, n.place.clients)
	}
	var ids []wire.ID
	for i := range users {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		id, err := o.CreateUser(ctx, fmt.Sprint("user", i+1), nil)
		cancel()
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	for i, id := range ids {
		for j, kind := range []string{"phone", "desk", "judge"} {
			name := fmt.Sprintf("user%d-%s", i+1, kind)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			token, err := o.Token(ctx, fmt.Sprint("user", i+1), wire.ID(1+3*i+j), tokenLifetime)
			cancel()
			if err != nil {
				return nil, err
			}
			p := &person{name: sim.Device(name), user: id, token: token.Text, peers: ids, servers: servers, recorder: w.recorder, pause: pause,
				random: rand.New(rand.NewPCG(seed, uint64(3*i+j))), dice: rand.New(rand.NewPCG(seed, uint64(1000+3*i+j))),
				places: make(map[string]int), orders: make(map[wire.Conversation]int)}
			switch {
			case kind == "judge":
				w.judges = append(w.judges, p)
			case kind == "phone" || i%2 == 0:
				if kind == "phone" {
					p.outbox = filepath.Join(c.dir, name+".outbox")
				}
				w.people = append(w.people, p)
			}
		}
	}
	return w, nil
}

// begin has the people chat until calm.
func (w *crowd) begin() {
	for _, p := range w.people {
		w.running.Go(func() { p.run(w.quiet, w.end) })
	}
}

// disperse ends all clients.
func (w *crowd) disperse() {
	closeOnce(w.quiet)
	closeOnce(w.end)
	w.running.Wait()
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// answered reports whether every send has its outcome.
func (w *crowd) answered() bool {
	all := true
	w.recorder.Add(func(h *sim.History) {
		for i := range h.Sends {
			all = all && h.Sends[i].Returned != 0
		}
	})
	return all
}
