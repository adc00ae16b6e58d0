//go:build linux

package load

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"parley/wire"
)

// conductor is the other end of Serve, as the conducting process is.
type conductor struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *json.Decoder
	next uint64
}

func startWorker(t *testing.T) *conductor {
	t.Helper()
	inReader, inWriter := io.Pipe()
	outReader, outWriter := io.Pipe()
	var done sync.WaitGroup
	done.Go(func() {
		if err := Serve(inReader, outWriter); err != nil {
			t.Error(err)
		}
		outWriter.Close()
	})
	t.Cleanup(func() {
		inWriter.Close()
		_, _ = io.Copy(io.Discard, outReader)
		done.Wait()
	})
	return &conductor{t: t, in: inWriter, out: json.NewDecoder(outReader)}
}

// ask sends a request and waits for its answer.
func (c *conductor) ask(do string, plan, result any) error {
	c.t.Helper()
	c.next++
	raw, err := json.Marshal(plan)
	if err != nil {
		c.t.Fatal(err)
	}
	line, err := json.Marshal(Request{ID: c.next, Do: do, Plan: raw})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		c.t.Fatal(err)
	}
	var r Response
	if err := c.out.Decode(&r); err != nil {
		c.t.Fatal(err)
	}
	if r.ID != c.next {
		c.t.Fatalf("answer to %d, want %d", r.ID, c.next)
	}
	if r.Error != "" {
		return fmt.Errorf("%s", r.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(r.Result, result)
}

func (c *conductor) must(do string, plan, result any) {
	c.t.Helper()
	if err := c.ask(do, plan, result); err != nil {
		c.t.Fatalf("%s: %v", do, err)
	}
}

func (c *conductor) job(kind string, plan any) {
	c.t.Helper()
	raw, err := json.Marshal(plan)
	if err != nil {
		c.t.Fatal(err)
	}
	c.must("job", JobPlan{Kind: kind, Plan: raw}, nil)
}

func account(n int) Account { return Account{User: wire.ID(n), Token: fmt.Sprint(n)} }

func pairsPlan(s *fake, n int) PairsPlan {
	p := PairsPlan{Target: s.target(), Window: 16, Bytes: 64, Seed: 1}
	for i := range n {
		p.Pairs = append(p.Pairs, Pair{Sender: account(2*i + 1), Receiver: account(2*i + 2)})
	}
	return p
}

func TestPairsSendAllAndSeeEachReceipt(t *testing.T) {
	s := startFake(t)
	c := startWorker(t)
	c.job("pairs", pairsPlan(s, 10))
	var lives int
	c.must("connect", nil, &lives)
	if lives != 20 {
		t.Fatalf("%d sessions, want 20", lives)
	}
	var complaints Complaints
	c.must("go", GoPlan{Messages: 500}, &complaints)
	var r PairsResult
	c.must("measured", nil, &r)
	want := uint64(10 * 500)
	if r.Counts.Sent != want || r.Counts.Acked != want || r.Counts.Delivered != want || r.Counts.Receipted != want || complaints.Errors > 0 {
		t.Errorf("%+v, %+v", r.Counts, complaints)
	}
	if r.Ack == nil || r.Ack.P50 <= 0 || r.Ack.P50 > r.Ack.P99 || r.Deliver == nil || r.Receipt == nil {
		t.Errorf("latencies: ack %v, deliver %v, receipt %v", r.Ack, r.Deliver, r.Receipt)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, conversation := range s.conversations {
		if len(conversation.messages) != 500 || conversation.delivered[key.B] != 500 {
			t.Errorf("%v: %d messages, delivered to %d", key, len(conversation.messages), conversation.delivered[key.B])
		}
	}
}

func TestPairsStopWhenAllHasArrived(t *testing.T) {
	for _, rate := range []float64{0, 2000} {
		s := startFake(t)
		c := startWorker(t)
		plan := pairsPlan(s, 2)
		plan.Rate, plan.Single = rate, rate == 0
		c.job("pairs", plan)
		c.must("connect", nil, nil)
		c.must("go", GoPlan{}, nil)
		var counts Counts
		for counts.Acked < 100 {
			c.must("counts", nil, &counts)
		}
		var complaints Complaints
		c.must("stop", nil, &complaints)
		c.must("counts", nil, &counts)
		if counts.Receipted != counts.Sent || complaints.Errors > 0 {
			t.Errorf("rate %v: %+v, %+v", rate, counts, complaints)
		}
	}
}

func TestPairsByReceiptHaveOneMessageOnItsWay(t *testing.T) {
	s := startFake(t)
	c := startWorker(t)
	plan := pairsPlan(s, 1)
	plan.Window, plan.ByReceipt, plan.Bytes = 1, true, 20
	c.job("pairs", plan)
	c.must("connect", nil, nil)
	c.must("go", GoPlan{Messages: 1000}, nil)
	var before, after Counts
	c.must("mark", nil, &before)
	c.must("go", GoPlan{Messages: 1100}, nil)
	c.must("counts", nil, &after)
	// The fake's identifiers and times are small: 14 of SEND's frame and 20 of its text, then the rest.
	frames := len(wire.AppendSend(nil, &wire.Send{Correlation: 1050, Ref: wire.DirectRef(2), Counter: 1050, Content: wire.Text(strings.Repeat("x", 20))})) +
		len(wire.AppendSent(nil, &wire.Sent{Correlation: 1050, Sequence: 1050})) +
		len(wire.AppendMessage(nil, &wire.Message{Ref: 2, Sequence: 1050, Revision: 1050, Content: wire.Text(strings.Repeat("x", 20))})) +
		len(wire.AppendCursor(nil, &wire.Cursor{Ref: 2, Position: 1050})) +
		len(wire.AppendReceipt(nil, &wire.Receipt{Ref: 2, Position: 1050}))
	want := uint64(frames + 2*6 + 3*2)
	if got := (after.Bytes - before.Bytes) / 100; got != want || after.Cursors-before.Cursors != 100 {
		t.Errorf("%d bytes a message, want %d; %d cursors", got, want, after.Cursors-before.Cursors)
	}
	var r ResumeResult
	c.must("resume", nil, &r)
	if r.Bytes == 0 || r.HandshakeBytes < 200 {
		t.Errorf("%+v", r)
	}
}

func TestPairsComplainAboutWhatTheServerDoesWrong(t *testing.T) {
	for name, spoil := range map[string]func(*fake){
		"lost push":             func(s *fake) { s.loses = 7 },
		"doubled push":          func(s *fake) { s.repeats = 7 },
		"receipts that go back": func(s *fake) { s.forgets = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := startFake(t)
			s.mu.Lock()
			spoil(s)
			s.mu.Unlock()
			c := startWorker(t)
			c.job("pairs", pairsPlan(s, 1))
			c.must("connect", nil, nil)
			c.must("go", GoPlan{}, nil)
			var r PairsResult
			for r.Complaints.Errors == 0 {
				c.must("measured", nil, &r)
			}
			if r.Complaints.First == "" {
				t.Error("a complaint without a text")
			}
		})
	}
}

func TestARefusedConnectionIsAnError(t *testing.T) {
	s := startFake(t)
	for name, plan := range map[string]PairsPlan{
		"bad token":    {Target: s.target(), Window: 1, Pairs: []Pair{{Account{1, "one"}, Account{2, "2"}}}},
		"other user":   {Target: s.target(), Window: 1, Pairs: []Pair{{Account{1, "9"}, Account{2, "2"}}}},
		"no such path": {Target: Target{Address: s.target().Address, Path: "no path"}, Window: 1, Pairs: []Pair{{account(1), account(2)}}},
	} {
		c := startWorker(t)
		c.job("pairs", plan)
		if err := c.ask("connect", nil, nil); err == nil {
			t.Errorf("%s: connected", name)
		}
	}
}

func TestRequestsThatNobodyKnowsAreRefused(t *testing.T) {
	c := startWorker(t)
	if err := c.ask("counts", nil, nil); err == nil || !strings.Contains(err.Error(), "before a job") {
		t.Error(err)
	}
	if err := c.ask("job", JobPlan{Kind: "nothing"}, nil); err == nil {
		t.Error("a job of an unknown kind")
	}
	s := startFake(t)
	for _, spoil := range []func(*PairsPlan){
		func(p *PairsPlan) { p.Window = 0 },
		func(p *PairsPlan) { p.Window = wire.DedupWindow + 1 },
		func(p *PairsPlan) { p.Pairs = nil },
	} {
		plan := pairsPlan(s, 1)
		spoil(&plan)
		raw, err := json.Marshal(plan)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ask("job", JobPlan{Kind: "pairs", Plan: raw}, nil); err == nil {
			t.Errorf("window %d, %d pairs", plan.Window, len(plan.Pairs))
		}
	}
	c.job("pairs", pairsPlan(s, 1))
	if err := c.ask("dance", nil, nil); err == nil {
		t.Error("an unknown request")
	}
}
