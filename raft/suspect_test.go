package raft

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// detector is a failure detector for tests: it calls a server silent some time after it
// was cut off, on each node at another moment.
type detector struct {
	mu     sync.Mutex
	silent map[string]time.Time
}

func (d *detector) says(server string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	since, ok := d.silent[server]
	return ok && !time.Now().Before(since)
}

func (d *detector) set(server string, since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent[server] = since
}

func (d *detector) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.silent)
}

// suspecting gives each replica a detector.
func (c *cluster) suspecting() map[*member]*detector {
	all := make(map[*member]*detector)
	for _, m := range c.members {
		d := &detector{silent: make(map[string]time.Time)}
		all[m] = d
		m.node.Suspect(d.says)
	}
	return all
}

// lose cuts the leader off and returns how long it takes until another leads.
func (c *cluster) lose(detectors map[*member]*detector, r *rand.Rand, after, spread time.Duration) time.Duration {
	l := c.awaitLeader()
	time.Sleep(2*time.Second + time.Duration(r.Int64N(int64(time.Second))))
	began := time.Now()
	c.network.Isolate(l.server)
	for m, d := range detectors {
		if m != l {
			d.set(l.server, began.Add(after+time.Duration(r.Int64N(int64(spread)))))
		}
	}
	eventually(c.t, "another leader", func() bool {
		return slices.ContainsFunc(c.members, func(m *member) bool { return m != l && m.group.Leading() })
	})
	return time.Since(began)
}

// TestSuspectedLeadersAreReplacedSoon cuts leaders off, of three and of five replicas, and
// logs how long the others take. With the library's timeouts alone it is one to three
// seconds; with a detector no election may take that long.
func TestSuspectedLeadersAreReplacedSoon(t *testing.T) {
	for _, test := range []struct {
		name          string
		size          int
		after, spread time.Duration
	}{
		{"three, at once", 3, 0, time.Millisecond},
		{"three, after 500 ms", 3, 500 * time.Millisecond, 250 * time.Millisecond},
		{"five, after 500 ms", 5, 500 * time.Millisecond, 250 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			var all []time.Duration
			for seed := range rounds(40) {
				synctest.Test(t, func(t *testing.T) {
					c := newClusterOf(t, uint64(seed), test.size)
					defer c.close()
					c.network.SetDelay(time.Millisecond)
					r := rand.New(rand.NewPCG(uint64(seed), 8))
					detectors := c.suspecting()
					all = append(all, c.lose(detectors, r, test.after, test.spread))
					c.network.Heal()
					for _, d := range detectors {
						d.clear()
					}
					c.settle()
					time.Sleep(time.Second)
					for _, m := range c.members {
						if m.group.raft.ReloadableConfig().HeartbeatTimeout < heartbeatTimeout-time.Millisecond {
							t.Errorf("%s has a short timeout for ever", m.server)
						}
					}
				})
			}
			slices.Sort(all)
			t.Logf("%d leaders lost: p50 %v, p99 %v, at most %v", len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
			if worst := all[len(all)-1]; worst > 2*time.Second { // of virtual time
				t.Errorf("%v without a leader", worst)
			}
		})
	}
}

// TestSuspicionAloneDeposesNobody has a detector that takes everybody for silent, while
// all hear each other.
func TestSuspicionAloneDeposesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		l := c.awaitLeader()
		time.Sleep(3 * time.Second)
		term := l.group.Term()
		for _, m := range c.members {
			m.node.Suspect(func(string) bool { return true })
		}
		time.Sleep(time.Minute)
		if l.group.Term() != term {
			t.Errorf("term is %d, was %d", l.group.Term(), term)
		}
		c.settle()
	})
}
