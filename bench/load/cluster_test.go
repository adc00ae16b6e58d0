//go:build linux

package load

import "testing"

// Two fakes know nothing of each other, but a client that has lost one goes to the other.
func TestStormComesBackAtTheOtherNode(t *testing.T) {
	nodes := []*fake{startFake(t), startFake(t)}
	plan := StormPlan{AtOnce: 2}
	for _, n := range nodes {
		plan.Nodes = append(plan.Nodes, n.target())
	}
	for i := range 6 {
		plan.Accounts = append(plan.Accounts, account(i+1))
	}
	c := startWorker(t)
	c.job("storm", plan)
	var r StormResult
	c.must("connect", nil, &r)
	if r.Live != 6 || r.Ended != 0 || r.Back != nil {
		t.Fatalf("%+v", r)
	}
	c.must("mark", nil, nil)
	nodes[1].listener.Close()
	nodes[1].drop()
	for r.Ended < 3 || r.Live < 6 {
		c.must("counts", nil, &r)
	}
	if r.Ended != 3 || r.Back == nil || r.Back.Max < 20 || r.Complaints.Errors != 0 {
		t.Errorf("%+v", r)
	}
}

func TestMarksShowWhoIsServed(t *testing.T) {
	s := startFake(t)
	c := startWorker(t)
	plan := crashPlan(s, 4)
	plan.Window, plan.Pause = 1, 1
	c.job("crash", plan)
	c.must("connect", nil, nil)
	c.must("go", nil, nil)
	c.must("mark", nil, nil)
	var r MarkResult
	for r.Acked < 100 {
		c.must("marked", nil, &r)
	}
	if len(r.Streams) != 8 || r.Ack == nil || r.Seconds <= 0 {
		t.Fatalf("%+v", r)
	}
	var sum uint64
	for i, x := range r.Streams {
		sum += x.Acked
		if x.Longest < 1 || x.Longest < x.Since {
			t.Errorf("stream %d: %+v", i, x)
		}
	}
	if sum != r.Acked {
		t.Errorf("%d of all, %d of the streams", r.Acked, sum)
	}
	c.must("mark", nil, nil)
	var again MarkResult
	if c.must("marked", nil, &again); again.Acked >= r.Acked {
		t.Errorf("a mark forgets nothing: %+v", again)
	}
}

func TestPairsMeetAtDifferentNodes(t *testing.T) {
	plan := PairsPlan{Target: Target{Path: "alone"}}
	if from, to := plan.targets(3); from.Path != "alone" || to.Path != "alone" {
		t.Errorf("without nodes: %v, %v", from, to)
	}
	for _, path := range []string{"a", "b", "c"} {
		plan.Nodes = append(plan.Nodes, Target{Path: path})
	}
	seen := make(map[string]int)
	for i := range 12 {
		from, to := plan.targets(i)
		seen[from.Path+to.Path]++
	}
	if len(seen) != 6 || seen["aa"] != 0 || seen["ab"] != 2 || seen["cb"] != 2 {
		t.Errorf("%v", seen)
	}
}
