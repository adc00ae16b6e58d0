package client

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"parley/wire"
)

// A driver runs a core: it owns it, and does its I/O. One goroutine runs loop; dialing,
// the store and each direction of a link have their own.
type driver struct {
	core    *core
	options *Options
	store   OutboxStore
	logger  *slog.Logger

	calls   chan func()   // run by loop
	events  chan Event    // handed to the consumer
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when nobody takes calls any more
	stopped chan struct{} // closed when all has ended
	opened  chan struct{} // closed at the first welcome, or the end

	context context.Context // of dialing; ends with the driver
	cancel  context.CancelFunc
	helpers sync.WaitGroup

	link    *link
	writing bool // link has something to write
	buffer  []byte
	dialing int // number of the last attempt
	dials   chan dialResult
	stores  chan error
	timer   *time.Timer
	lastErr error // of the last connection

	opening bool
	// What Open returns; set before opened is closed.
	user, device wire.ID
	openErr      error
}

type dialResult struct {
	attempt int
	link    *link
	token   string
	err     error
}

func newDriver(c *core, o *Options, store OutboxStore) *driver {
	d := &driver{core: c, options: o, store: store, logger: o.logger(),
		calls: make(chan func()), events: make(chan Event), closing: make(chan struct{}), done: make(chan struct{}), stopped: make(chan struct{}),
		opened: make(chan struct{}), dials: make(chan dialResult), stores: make(chan error), opening: true}
	d.context, d.cancel = context.WithCancel(context.Background())
	return d
}

// loop feeds the core until it has ended and its events are taken, or until Close.
func (d *driver) loop() {
	defer d.shutdown()
	d.timer = time.NewTimer(0)
	defer d.timer.Stop()
	closing := d.closing
	for {
		d.core.tick(time.Now())
		d.perform()
		if d.opening && (d.core.welcomed || d.core.phase == phaseEnded) {
			d.opening = false
			d.user, d.device, d.openErr = d.core.user, d.core.device, d.core.ended
			close(d.opened)
		}
		event := d.core.feed.peek()
		if d.core.phase == phaseEnded && (event == nil || closing == nil) {
			return
		}
		if d.wait(event, closing) {
			closing = nil
			d.core.close(time.Now())
		}
	}
}

// wait waits for one thing to happen and gives it to the core. It reports whether that
// was Close.
func (d *driver) wait(event Event, closing <-chan struct{}) bool {
	var events chan<- Event
	if event != nil {
		events = d.events
	}
	var in <-chan []byte
	var written <-chan error
	if d.link != nil {
		in, written = d.link.in, d.link.written
	}
	d.setTimer()
	select {
	case <-closing:
		return true
	case call := <-d.calls:
		d.core.now = time.Now()
		call()
	case events <- event:
		d.core.now = time.Now()
		d.core.handed()
	case message, ok := <-in:
		if ok {
			d.core.received(time.Now(), message)
		} else {
			d.lost(d.link.failure)
		}
	case err := <-written:
		d.writing = false
		if err != nil {
			d.lost(err)
		}
	case result := <-d.dials:
		d.dialed(result)
	case err := <-d.stores:
		d.core.wrote(time.Now(), err)
	case <-d.timer.C:
	}
	return false
}

func (d *driver) setTimer() {
	if at := d.core.deadline(); at.IsZero() {
		d.timer.Stop()
	} else {
		d.timer.Reset(time.Until(at))
	}
}

// perform does what the core asks for, and writes what it has to say.
func (d *driver) perform() {
	for {
		actions := d.core.take()
		for i := range actions {
			d.act(&actions[i])
		}
		if len(actions) == 0 {
			break
		}
	}
	if d.link == nil || d.writing {
		return
	}
	if d.buffer = d.core.output(d.buffer[:0]); len(d.buffer) > 0 {
		d.writing = true
		d.link.out <- outgoing{payload: d.buffer}
	}
}

func (d *driver) act(a *action) {
	switch a.kind {
	case actionDial:
		d.dial(a)
	case actionDrop:
		d.drop(a.code)
	case actionStore:
		d.write(a.changes)
	case actionKept:
		a.pending.keep()
	case actionFinish:
		a.pending.finish(a.sent, a.err)
	case actionAnswer:
		close(a.request.done)
	}
}

// write gives changes to the store, in the background if that takes a disk.
func (d *driver) write(changes []OutboxChange) {
	if _, memory := d.store.(*memoryOutbox); memory {
		d.core.wrote(time.Now(), d.store.Write(changes))
		return
	}
	d.helpers.Add(1)
	go func() {
		defer d.helpers.Done()
		err := d.store.Write(changes)
		select {
		case d.stores <- err:
		case <-d.done:
		}
	}()
}

// dial gets a token if one is needed, and a connection.
func (d *driver) dial(a *action) {
	d.dialing++
	result := dialResult{attempt: d.dialing}
	endpoint, needToken := a.endpoint, a.token
	if endpoint == "" {
		endpoint = d.options.Address
	}
	d.helpers.Add(1)
	go func() {
		defer d.helpers.Done()
		ctx, cancel := context.WithTimeout(d.context, DialSeconds*time.Second)
		defer cancel()
		result.link, result.token, result.err = connect(ctx, d.options, endpoint, needToken)
		select {
		case d.dials <- result:
		case <-d.done:
			if result.link != nil {
				result.link.stop()
			}
		}
	}()
}

func connect(ctx context.Context, o *Options, endpoint string, needToken bool) (*link, string, error) {
	to, err := parseAddress(endpoint)
	if err != nil {
		return nil, "", err
	}
	token := ""
	if needToken {
		if token, err = o.Token(ctx); err != nil {
			return nil, "", err
		}
		if len(token) > wire.CredentialBytesMax {
			return nil, "", &wire.Error{Code: wire.CodeUnauthenticated, Reason: "the token is too long"}
		}
	}
	l, err := dialLink(ctx, o, to)
	return l, token, err
}

func (d *driver) dialed(r dialResult) {
	if d.core.phase != phaseDialing || r.attempt != d.dialing {
		if r.link != nil {
			d.discard(r.link)
		}
		return
	}
	if r.err != nil {
		d.lastErr = r.err
		d.logger.Debug("client: cannot connect", "error", r.err)
		d.core.failed(time.Now(), r.err)
		return
	}
	d.link, d.writing = r.link, false
	d.core.dialed(time.Now(), r.token)
}

// lost tells the core of the end of the link.
func (d *driver) lost(err error) {
	d.logger.Debug("client: connection lost", "error", err)
	d.lastErr = err
	var closed *closeError
	if errors.As(err, &closed) {
		d.drop(0)
		d.core.closed(time.Now(), closed.code, closed.reason, err)
		return
	}
	d.discard(d.unlink())
	d.core.closed(time.Now(), 0, "", err)
}

// unlink takes the link out of the loop. What it is writing is not ours any more.
func (d *driver) unlink() *link {
	l := d.link
	d.link, d.buffer, d.writing = nil, nil, false
	return l
}

// discard ends a link in the background: closing a socket may wait.
func (d *driver) discard(l *link) {
	d.helpers.Add(1)
	go func() {
		defer d.helpers.Done()
		l.stop()
	}()
}

// drop ends the link with a WebSocket close, if it can still be said.
func (d *driver) drop(code wire.Code) {
	l := d.unlink()
	if l == nil {
		return
	}
	status := ws.StatusNormalClosure
	if code != 0 {
		status = ws.StatusCode(code.CloseCode())
	}
	d.helpers.Add(1)
	go func() {
		defer d.helpers.Done()
		l.farewell(status)
	}()
}

// shutdown ends what the loop started.
func (d *driver) shutdown() {
	d.cancel()
	close(d.done)
	if d.link != nil {
		d.discard(d.unlink())
	}
	d.helpers.Wait()
	if last := d.core.lastBatch(); len(last) > 0 {
		if err := d.store.Write(last); err != nil {
			d.logger.Error("client: writing the outbox", "error", err)
		}
	}
	if err := d.store.Close(); err != nil {
		d.logger.Error("client: closing the outbox", "error", err)
	}
	close(d.events)
	close(d.stopped)
}
