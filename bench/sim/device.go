package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"parley/wire"
	"parley/wire/client"
)

// A device is a person with the real client: it writes, reads, and starts its program
// again now and then. One goroutine runs it.
type device struct {
	name     Device
	user     wire.ID
	token    string
	peers    []wire.ID // whom it writes to
	network  *Network
	host     *Host
	servers  []string
	recorder *Recorder
	random   *rand.Rand
	traffic  Traffic

	mu      sync.Mutex
	sources *rand.Rand // of dials, which are on other goroutines
	conns   int
	life    int
	reached map[wire.Conversation]uint64
	state   client.ConnectionState
	pending sync.WaitGroup
	number  int
}

// Traffic says what devices do.
type Traffic struct {
	Pause       time.Duration // between two sends, on average
	BodyMax     int           // bytes of the longest messages, one in 16
	ReadPercent int           // of the messages that come, which are marked read
	Restart     time.Duration // between two starts of the program, on average; 0: never
}

func (d *device) gap(format string, args ...any) {
	text := fmt.Sprintf("%s: ", d.name) + fmt.Sprintf(format, args...)
	d.recorder.Add(func(h *History) { h.Gaps = append(h.Gaps, text) })
}

// dial connects to any of the servers.
func (d *device) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	d.mu.Lock()
	d.conns++
	number, server := d.conns, d.servers[d.sources.IntN(len(d.servers))]
	d.mu.Unlock()
	conn, err := d.host.Dial(ctx, server)
	if err != nil {
		return nil, err
	}
	return &tap{Conn: conn, device: d, number: number}, nil
}

// options are those of a life of the program.
func (d *device) options() client.Options {
	o := client.Options{Address: "ws://" + d.servers[0], Dial: d.dial, Name: string(d.name), Seed: d.random.Uint64() | 1,
		Token: func(context.Context) (string, error) { return d.token, nil }}
	if d.random.IntN(2) == 0 {
		o.Begin = client.BeginDelivered
	}
	return o
}

// run uses the program until quiet is closed, then goes on listening until end is.
func (d *device) run(quiet, end <-chan struct{}) {
	for !closed(end) {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			select {
			case <-end:
				cancel()
			case <-ctx.Done():
			}
		}()
		d.mu.Lock()
		d.life++
		d.reached = make(map[wire.Conversation]uint64)
		d.state = client.Offline
		d.mu.Unlock()
		c, err := client.Open(ctx, d.options())
		if err != nil {
			if ctx.Err() == nil {
				d.gap("the server refuses for good: %v", err)
				<-end
			}
		} else {
			d.use(ctx, c, quiet)
			c.Close()
		}
		cancel()
		d.pending.Wait()
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// use is one life of the program.
func (d *device) use(ctx context.Context, c *client.Client, quiet <-chan struct{}) {
	var listening sync.WaitGroup
	listening.Go(func() { d.listen(c) })
	defer listening.Wait()
	defer c.Close()
	orders := make(map[wire.Conversation]int)
	var restart <-chan time.Time
	if d.traffic.Restart > 0 {
		restart = time.After(exponential(d.random, d.traffic.Restart))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-quiet:
			<-ctx.Done()
			return
		case <-restart:
			return
		case <-time.After(exponential(d.random, d.traffic.Pause)):
		}
		if closed(quiet) || ctx.Err() != nil {
			continue
		}
		if d.random.IntN(8) == 0 {
			d.read(ctx, c, d.peers[d.random.IntN(len(d.peers))])
			continue
		}
		for range 1 + d.random.IntN(4) {
			d.send(c, d.peers[d.random.IntN(len(d.peers))], orders)
		}
	}
}

// exponential draws a time with a mean, at most ten times as long.
func exponential(random *rand.Rand, mean time.Duration) time.Duration {
	return min(time.Duration(random.ExpFloat64()*float64(mean)), 10*mean)
}

// send queues a message and notes its outcome when it comes.
func (d *device) send(c *client.Client, peer wire.ID, orders map[wire.Conversation]int) {
	conversation := wire.DirectConversation(d.user, peer)
	d.number++
	size := d.random.IntN(41)
	if d.random.IntN(16) == 0 {
		size = d.random.IntN(d.traffic.BodyMax + 1)
	}
	body := fmt.Sprintf("%s/%d ", d.name, d.number) + strings.Repeat(string(rune('a'+d.number%26)), size)
	orders[conversation]++
	place := d.recorder.Send(Send{Device: d.name, Author: d.user, Conversation: conversation, Body: body, Life: d.life, Order: orders[conversation]})
	p, err := c.Queue(wire.DirectRef(peer), wire.Text(body))
	if err != nil {
		orders[conversation]--
		d.recorder.Return(place, outcomeOf(err), 0, err)
		return
	}
	d.pending.Go(func() {
		<-p.Done()
		sent, err := p.Result()
		outcome := outcomeOf(err)
		if sent.Found {
			outcome = Forgotten
		}
		d.recorder.Return(place, outcome, sent.Sequence, err)
	})
}

func outcomeOf(err error) Outcome {
	var refused *wire.Error
	switch {
	case err == nil:
		return Accepted
	case errors.Is(err, client.ErrClosed):
		return Unknown // whatever it was closed for
	case errors.As(err, &refused), errors.Is(err, client.ErrOutboxFull):
		return Refused
	case errors.Is(err, client.ErrUnknownOutcome):
		return Forgotten
	}
	return Unknown
}

// read reads the last page of a conversation.
func (d *device) read(ctx context.Context, c *client.Client, peer wire.ID) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r := Read{Device: d.name, User: d.user, Conversation: wire.DirectConversation(d.user, peer), Called: d.recorder.Now()}
	page, err := c.History(ctx, wire.History{Ref: wire.DirectRef(peer), Mode: wire.HistoryBackward, Limit: 50})
	if err != nil {
		return
	}
	r.Returned, r.Head, r.Entries = d.recorder.Now(), page.Head, entriesOf(&page)
	d.recorder.Add(func(h *History) { h.Reads = append(h.Reads, r) })
}

func entriesOf(page *wire.Page) []Entry {
	var entries []Entry
	for i := range page.Messages {
		m := &page.Messages[i]
		author := m.Author
		if author == 0 {
			author = page.Ref.ID()
		}
		entries = append(entries, Entry{m.Sequence, author, m.Time, bodyOf(m.Content)})
	}
	return entries
}

// listen takes the events of a life.
func (d *device) listen(c *client.Client) {
	random := source(uint64(d.life), string(d.name))
	for e := range c.Events() {
		now := d.recorder.Now()
		switch e := e.(type) {
		case *client.MessageEvent:
			conversation := e.Ref.Conversation(d.user)
			seen := Seen{Entry: Entry{e.Sequence, e.Author, e.Time, bodyOf(e.Content)}, Device: d.name, Life: d.life, User: d.user, Conversation: conversation, At: now}
			d.recorder.Add(func(h *History) { h.Handed = append(h.Handed, seen) })
			d.reach(conversation, e.Sequence)
			if random.IntN(100) < d.traffic.ReadPercent {
				c.Read(e.Ref, e.Sequence)
			}
		case *client.ReceiptEvent:
			moved := Moved{Device: d.name, Life: d.life, User: d.user, Conversation: e.Ref.Conversation(d.user), Kind: e.Kind, Position: e.Position, At: now}
			d.recorder.Add(func(h *History) { h.Moved = append(h.Moved, moved) })
		case *client.ConversationEvent:
			if e.First {
				d.reach(e.State.Ref.Conversation(d.user), e.Begin)
			}
		case *client.GapEvent:
			d.gap("messages %d to %d of %s cannot be had: %v", e.From, e.To, conversationName(e.Ref.Conversation(d.user)), e.Err)
		case *client.ConnectionEvent:
			d.mu.Lock()
			d.state = e.State
			d.mu.Unlock()
			if e.State == client.Closed && e.Err != nil {
				d.gap("sent away for good: %v", e.Err)
			}
		}
	}
}

func (d *device) reach(c wire.Conversation, sequence uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reached[c] = sequence
}

// online tells how far the device has got.
func (d *device) online() Online {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := Online{Device: d.name, User: d.user, Reached: make(map[wire.Conversation]uint64)}
	for c, sequence := range d.reached {
		o.Reached[c] = sequence
	}
	if d.state != client.Live {
		o.Problems = append(o.Problems, fmt.Sprintf("it is %v", d.state))
	}
	return o
}
