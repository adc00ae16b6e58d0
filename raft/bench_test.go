package raft

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// benchMachine only counts; entries carry the time they were queued at.
type benchMachine struct {
	testMachine
	done chan int
}

func (m *benchMachine) Apply(entries []Entry) error {
	m.mu.Lock()
	m.latest.Index, m.latest.Term = entries[len(entries)-1].Index, entries[len(entries)-1].Term
	m.durable = m.latest
	m.mu.Unlock()
	m.done <- len(entries)
	return nil
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// benchCluster opens voters nodes in one process, and returns the leading group and its source.
func benchCluster(b *testing.B, voters, groups int, m []*benchMachine, s []*testSource) []*Group {
	network := NewMemory()
	var servers []string
	for i := range voters {
		servers = append(servers, fmt.Sprint("node", i))
	}
	all := make([]*Group, 0, groups*voters)
	for i, server := range servers {
		n, err := Open(Options{Path: filepath.Join(b.TempDir(), fmt.Sprint(i)), FS: vfs.Default, Server: server,
			Network: network.Network(server), Logger: testLogger(), Fatal: func(err error) { b.Error(err) }})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { n.Close() })
		for id := range groups {
			machine, source := Machine(m[id]), Source(s[id])
			if i > 0 {
				machine, source = &testMachine{autoRecord: true}, &testSource{}
			}
			if i == 0 || voters > 1 {
				g, err := n.Start(b.Context(), GroupConfig{ID: uint32(id + 1), Machine: machine, Source: source, Servers: servers})
				if err != nil {
					b.Fatal(err)
				}
				all = append(all, g)
				if i == 0 && voters > 1 {
					soon := g.raft.ReloadableConfig()
					soon.HeartbeatTimeout -= time.Millisecond
					defer g.raft.ReloadConfig(soon)
				}
			}
		}
	}
	return all[:groups]
}

func benchEntries(b *testing.B, voters, inFlight, window, size int) {
	m, s := &benchMachine{done: make(chan int, 1024)}, &testSource{}
	g := benchCluster(b, voters, 1, []*benchMachine{m}, []*testSource{s})[0]
	eventually(b, "leader", g.Leading)
	g.flight.mu.Lock()
	g.flight.window = window
	g.flight.mu.Unlock()
	entry := padded(1, size)
	latencies := make([]time.Duration, 0, b.N)
	started := make([]time.Time, 0, b.N)
	queued, done := 0, 0
	add := func() {
		started = append(started, time.Now())
		s.add(entry)
		queued++
	}
	writes := g.node.committer.writes.Load()
	cpu := cpuTime()
	b.ReportAllocs()
	b.ResetTimer()
	for queued < min(inFlight, b.N) {
		add()
	}
	g.Kick()
	for done < b.N {
		now := <-m.done
		t := time.Now()
		for range now {
			latencies = append(latencies, t.Sub(started[done]))
			done++
			if queued < b.N {
				add()
			}
		}
		g.Kick()
	}
	b.StopTimer()
	report(b, latencies, cpuTime()-cpu, g.node.committer.writes.Load()-writes)
}

func report(b *testing.B, latencies []time.Duration, cpu time.Duration, writes uint64) {
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	b.ReportMetric(float64(latencies[len(latencies)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(latencies[len(latencies)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N)/1000, "cpu-µs/op")
	b.ReportMetric(float64(writes)/float64(b.N), "syncs/op")
}

func BenchmarkEntry(b *testing.B) {
	for _, c := range []struct{ voters, inFlight, window, size int }{
		{1, 1, 4, 64}, {1, 64, 4, 64}, {1, 64, 64, 64}, {1, 4, 4, 16384}, {3, 1, 4, 64}, {3, 64, 4, 64}, {3, 64, 64, 64},
	} {
		b.Run(fmt.Sprintf("voters=%d/inflight=%d/window=%d/size=%d", c.voters, c.inFlight, c.window, c.size), func(b *testing.B) {
			benchEntries(b, c.voters, c.inFlight, c.window, c.size)
		})
	}
}

// BenchmarkGroups keeps 4 entries of 1 KiB in flight in each of 8 groups.
func BenchmarkGroups(b *testing.B) {
	for _, voters := range []int{1, 3} {
		b.Run(fmt.Sprintf("voters=%d", voters), func(b *testing.B) {
			const groups = 8
			var machines []*benchMachine
			var sources []*testSource
			for range groups {
				machines = append(machines, &benchMachine{done: make(chan int, 1024)})
				sources = append(sources, &testSource{})
			}
			all := benchCluster(b, voters, groups, machines, sources)
			for _, g := range all {
				eventually(b, "leader", g.Leading)
			}
			writes := all[0].node.committer.writes.Load()
			cpu := cpuTime()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wait sync.WaitGroup
			for i, g := range all {
				wait.Go(func() {
					entry := padded(i, 1024)
					out := 0
					for {
						for out < InFlightMax && left.Add(-1) >= 0 {
							sources[i].add(entry)
							out++
						}
						if out == 0 {
							return
						}
						g.Kick()
						out -= <-machines[i].done
					}
				})
			}
			wait.Wait()
			b.StopTimer()
			report(b, []time.Duration{0}, cpuTime()-cpu, all[0].node.committer.writes.Load()-writes)
		})
	}
}

// BenchmarkFsync is what the disk alone costs: 128 bytes appended, or written over.
func BenchmarkFsync(b *testing.B) {
	for _, over := range []bool{false, true} {
		b.Run(fmt.Sprintf("over=%v", over), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "f"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			if over {
				if _, err := f.Write(make([]byte, 16<<20)); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			buf := make([]byte, 128)
			latencies := make([]time.Duration, 0, b.N)
			cpu := cpuTime()
			for i := range b.N {
				start := time.Now()
				if _, err := f.WriteAt(buf, int64(i*128)); err != nil {
					b.Fatal(err)
				}
				if err := syscall.Fdatasync(int(f.Fd())); err != nil {
					b.Fatal(err)
				}
				latencies = append(latencies, time.Since(start))
			}
			report(b, latencies, cpuTime()-cpu, uint64(b.N))
		})
	}
}
