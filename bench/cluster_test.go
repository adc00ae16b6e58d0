//go:build linux

package bench

import (
	"testing"
	"time"

	"parley/engine/admin"
)

func TestClusterMeasuresThreeNodes(t *testing.T) {
	for _, args := range [][]string{
		{"cluster", "--pairs", "9", "--warmup", "100ms", "--duration", "400ms"},
		{"cluster", "--lone", "--plain", "--warmup", "100ms", "--duration", "400ms"},
	} {
		r := mustBench(t, args...)
		if r.Messages == 0 || r.AckedPerSecond <= 0 || r.Ack == nil || r.Deliver == nil || r.Receipt == nil ||
			r.DiskBytesPerMessage <= 0 || r.Config["nodes"] != "3" {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

func TestFailoverTellsHowLongNobodyIsServed(t *testing.T) {
	r := mustBench(t, "failover", "--cycles", "1", "--transfers", "1", "--users", "33")
	if r.Cycles != 1 || r.Failover == nil || r.Failover.Max < 10 || r.Transfer == nil || r.Rolling == nil || r.Reconnects == 0 || r.Messages == 0 {
		t.Errorf("%+v", r)
	}
}

func TestMoveGivesANewNodeItsShare(t *testing.T) {
	r := mustBench(t, "move", "--users", "16", "--before", "500ms")
	if r.AckedPerSecondBefore <= 0 || r.AckedPerSecond <= 0 || r.Ack == nil || r.AckBefore == nil || r.Outage == nil || r.MoveSeconds <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestStormBringsEverybodyBack(t *testing.T) {
	r := mustBench(t, "storm", "-n", "90")
	if r.Sessions != 90 || r.Reconnects != 30 || r.Back == nil || r.Back.Max < 20 {
		t.Errorf("%+v", r)
	}
}

func TestIdleClusterLooksAtEachNode(t *testing.T) {
	// The kernel counts CPU in steps of 10 ms, of which an idle node may take none.
	if r := mustBench(t, "idle-cluster", "--hold", "1s", "--nodes", "2"); r.RSSBytes <= 0 || r.Config["nodes"] != "2" {
		t.Errorf("%+v", r)
	}
}

func TestTimesAreDescribed(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(100-i)*time.Millisecond)
	}
	if l := latencyOf(times); l.P50 != 51 || l.P90 != 91 || l.P99 != 100 || l.Max != 100 {
		t.Errorf("%+v", l)
	}
	if l := latencyOf(nil); l != nil {
		t.Errorf("%+v", l)
	}
}

func TestShardsOnTheirWayAreNotAtRest(t *testing.T) {
	good := admin.Shard{ID: 1, Leader: "a", Settled: true, Replicas: make([]admin.Replica, 3)}
	for name, test := range map[string]struct {
		change func(s *admin.Shard)
		rests  bool
	}{
		"at rest":   {func(*admin.Shard) {}, true},
		"moving":    {func(s *admin.Shard) { s.Settled = false }, false},
		"no leader": {func(s *admin.Shard) { s.Leader = "" }, false},
		"two only":  {func(s *admin.Shard) { s.Replicas = s.Replicas[:2] }, false},
	} {
		s := good
		test.change(&s)
		if text := unsettled([]admin.Shard{good, s}, 3); (text == "") != test.rests {
			t.Errorf("%s: %q", name, text)
		}
	}
}
