//go:build linux

package core

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"parley/bench/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testPlan(t *testing.T) Plan {
	return Plan{Folder: t.TempDir(), Shards: 3, Conversations: 24, Window: 4, Bytes: 64, Seed: 1}
}

func openRun(t *testing.T, p Plan) *run {
	t.Helper()
	r, err := open(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	r.begin()
	return r
}

func (r *run) awaitAcked(t *testing.T, n uint64) {
	t.Helper()
	if err := r.await(t.Context(), time.Minute, "progress", func() bool { return r.counts().Acked >= n }); err != nil {
		t.Fatal(err)
	}
}

func TestEveryReplicaHoldsWhatWasAcknowledged(t *testing.T) {
	r := openRun(t, testPlan(t))
	r.awaitAcked(t, 500)
	ended, err := r.end(t.Context())
	if err != nil || ended.Complaints.Errors != 0 || ended.Messages < 500 {
		t.Fatalf("%+v, %v", ended, err)
	}
}

func TestADifferenceIsFound(t *testing.T) {
	r := openRun(t, testPlan(t))
	r.awaitAcked(t, 200)
	if ended, err := r.end(t.Context()); err != nil || ended.Complaints.Errors != 0 {
		t.Fatalf("%+v, %v", ended, err)
	}
	for name, spoil := range map[string]func(w *writer) (undo func()){
		"a message is missing":   func(w *writer) func() { w.acked++; return func() { w.acked-- } },
		"another text is stored": func(w *writer) func() { w.stream++; return func() { w.stream-- } },
	} {
		x := r.traffic[1]
		x.complaints = load.Complaints{}
		undo := spoil(&x.writers[0])
		x.verify()
		undo()
		if x.complaints.Errors != Replicas || x.complaints.First == "" {
			t.Errorf("%s: %+v", name, x.complaints)
		}
	}
}

// TestALeaderThatIsCutOffLosesNothing cuts a node off under load: its shards get other leaders,
// what was on its way is refused and sent again, and in the end each message is there once.
func TestALeaderThatIsCutOffLosesNothing(t *testing.T) {
	r := openRun(t, testPlan(t))
	r.awaitAcked(t, 100)
	cut := 0
	for i, led := range r.cluster.led() {
		if led > 0 {
			cut = i
		}
	}
	r.cluster.network.Isolate(nodeName(cut))
	others := func() bool {
		led := r.cluster.led()
		return led[cut] == 0 && led[0]+led[1]+led[2] == r.plan.Shards
	}
	if err := r.await(t.Context(), time.Minute, "other leaders", others); err != nil {
		t.Fatal(err)
	}
	r.awaitAcked(t, r.counts().Acked+500)
	r.cluster.network.Heal()
	ended, err := r.end(t.Context())
	if err != nil || ended.Complaints.Errors != 0 {
		t.Fatalf("%+v, %v", ended, err)
	}
	if ended.Refused == 0 {
		t.Error("nothing was refused")
	}
}

// client asks a served core.
type client struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
	id  uint64
}

func (c *client) ask(do string, plan, result any) string {
	c.t.Helper()
	raw, err := json.Marshal(plan)
	if err != nil {
		c.t.Fatal(err)
	}
	c.id++
	line, err := json.Marshal(load.Request{ID: c.id, Do: do, Plan: raw})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		c.t.Fatal(err)
	}
	var a load.Response
	if !c.out.Scan() || json.Unmarshal(c.out.Bytes(), &a) != nil || a.ID != c.id {
		c.t.Fatalf("%s: %s", do, c.out.Bytes())
	}
	if a.Error == "" && result != nil {
		if err := json.Unmarshal(a.Result, result); err != nil {
			c.t.Fatalf("%s: %v: %s", do, err, a.Result)
		}
	}
	return a.Error
}

func TestRequestsAreServedInOrder(t *testing.T) {
	inReader, in := io.Pipe()
	outReader, out := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(t.Context(), inReader, out) }()
	c := &client{t: t, in: in, out: bufio.NewScanner(outReader)}
	if e := c.ask("go", nil, nil); !strings.Contains(e, "nothing runs") {
		t.Errorf("go before open: %q", e)
	}
	if e := c.ask("open", Plan{Folder: t.TempDir()}, nil); !strings.Contains(e, "positive") {
		t.Errorf("a plan without conversations: %q", e)
	}
	var opened Opened
	if e := c.ask("open", testPlan(t), &opened); e != "" || len(opened.Led) != Replicas {
		t.Fatalf("open: %q, %+v", e, opened)
	}
	if e := c.ask("dance", nil, nil); !strings.Contains(e, "unknown") {
		t.Errorf("an unknown request: %q", e)
	}
	var marked, counted Counts
	c.ask("go", nil, nil)
	if e := c.ask("mark", Profile{}, &marked); e != "" {
		t.Errorf("mark: %q", e)
	}
	for counted.Acked < marked.Acked+100 {
		if e := c.ask("counts", nil, &counted); e != "" {
			t.Fatalf("counts: %q", e)
		}
	}
	var measured Measured
	if e := c.ask("measured", nil, &measured); e != "" || measured.Counts.Acked < counted.Acked || measured.Counts.Entries == 0 || measured.Ack == nil {
		t.Errorf("measured: %q, %+v", e, measured)
	}
	var ended Ended
	if e := c.ask("stop", nil, &ended); e != "" || ended.Complaints.Errors != 0 || ended.Messages < counted.Acked {
		t.Errorf("stop: %q, %+v", e, ended)
	}
	if e := c.ask("close", nil, nil); e != "" {
		t.Errorf("close: %q", e)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
