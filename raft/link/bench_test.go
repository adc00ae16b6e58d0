package link

import (
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"
)

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// withAndWithoutTLS runs a benchmark on loopback TCP.
func withAndWithoutTLS(b *testing.B, run func(b *testing.B, w *world)) {
	b.Run("plain", func(b *testing.B) { run(b, newWorld(b, true)) })
	b.Run("tls", func(b *testing.B) {
		p := newPKI(b)
		a := p.authority("ca")
		w := newWorld(b, true)
		w.tls = func(node uint32) *tls.Config { return p.load(p.issue(a, fmt.Sprint("node", node), NodeLifetime)) }
		run(b, w)
	})
}

// measured reports what a round trip costs both ends together.
func measured(b *testing.B, hubs []*Hub, run func()) {
	calls := func() (n uint64) {
		for _, h := range hubs {
			s := h.Stats()
			n += s.Reads + s.Writes
		}
		return n
	}
	before, cpu := calls(), cpuTime()
	b.ReportAllocs()
	b.ResetTimer()
	run()
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(calls()-before)/float64(b.N), "syscalls/op")
}

// BenchmarkAppendEntries is one entry of 1 KiB to a replica that answers at once.
func BenchmarkAppendEntries(b *testing.B) {
	withAndWithoutTLS(b, func(b *testing.B, w *world) {
		hubs := w.mesh(2)
		data := make([]byte, 1<<10)
		const groups = 64 / AppendsInFlightMax
		var all []*transport
		for g := range uint32(groups) {
			x, y := pair(b, hubs, g)
			b.Cleanup(answering(y, accept))
			all = append(all, x)
		}
		request := entriesOf(1, 1)
		request.Entries[0].Data = data
		b.Run("inflight=1", func(b *testing.B) {
			measured(b, hubs, func() {
				for range b.N {
					if err := all[0].AppendEntries("n2", "n2", request, &hraft.AppendEntriesResponse{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
		b.Run("inflight=64", func(b *testing.B) {
			var pipelines []hraft.AppendPipeline
			for _, x := range all {
				p, err := x.AppendEntriesPipeline("n2", "n2")
				if err != nil {
					b.Fatal(err)
				}
				pipelines = append(pipelines, p)
			}
			measured(b, hubs, func() {
				var running sync.WaitGroup
				for i, p := range pipelines {
					n := b.N / groups
					if i < b.N%groups {
						n++
					}
					running.Go(func() { drive(b, p, request, n) })
				}
				running.Wait()
			})
			for _, p := range pipelines {
				p.Close()
			}
		})
	})
}

// drive sends n messages, with as many under way as a pipeline carries.
func drive(b *testing.B, p hraft.AppendPipeline, request *hraft.AppendEntriesRequest, n int) {
	sent := 0
	for answered := 0; answered < n; answered++ {
		for ; sent < n && sent-answered < AppendsInFlightMax; sent++ {
			if _, err := p.AppendEntries(request, &hraft.AppendEntriesResponse{}); err != nil {
				b.Error(err)
				return
			}
		}
		if f := <-p.Consumer(); !f.Response().Success {
			b.Error("refused")
			return
		}
	}
}

// BenchmarkCall is a call of 100 bytes that is answered with as many.
func BenchmarkCall(b *testing.B) {
	withAndWithoutTLS(b, func(b *testing.B, w *world) {
		hubs := w.mesh(2)
		hubs[1].HandleCall(1, echo)
		payload := make([]byte, 100)
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprint("inflight=", callers), func(b *testing.B) {
				measured(b, hubs, func() {
					var running sync.WaitGroup
					for i := range callers {
						running.Go(func() {
							for n := i; n < b.N; n += callers {
								if _, err := hubs[0].Call(b.Context(), 2, 1, payload); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					running.Wait()
				})
			})
		}
	})
}

// BenchmarkSend is a message of 100 bytes, sent as fast as the queue takes it.
func BenchmarkSend(b *testing.B) {
	withAndWithoutTLS(b, func(b *testing.B, w *world) {
		hubs := w.mesh(2)
		payload := make([]byte, 100)
		arrived, done := 0, make(chan struct{})
		hubs[1].Handle(1, func(uint32, []byte) {
			if arrived++; arrived == b.N {
				close(done)
			}
		})
		measured(b, hubs, func() {
			for range b.N {
				for hubs[0].Send(2, 1, payload) != nil {
					time.Sleep(time.Millisecond) // the queue is full
				}
			}
			<-done
		})
	})
}

// BenchmarkIdle is one second of three connected nodes that have nothing to say: percent of a core,
// all three together.
func BenchmarkIdle(b *testing.B) {
	withAndWithoutTLS(b, func(b *testing.B, w *world) {
		hubs := w.mesh(3)
		time.Sleep(time.Second)
		cpu := cpuTime()
		b.ResetTimer()
		for range b.N {
			time.Sleep(time.Second)
		}
		b.StopTimer()
		b.ReportMetric((cpuTime()-cpu).Seconds()*100/float64(b.N), "cpu-%")
		b.ReportMetric(float64(len(hubs)), "nodes")
	})
}

// BenchmarkLoneEntry is one entry of 100 bytes after another through three replicas with logs on
// disk, all on this machine.
func BenchmarkLoneEntry(b *testing.B) {
	withAndWithoutTLS(b, func(b *testing.B, w *world) {
		var replicas []*replica
		var hubs []*Hub
		for i := range 3 {
			w.logs = b.TempDir()
			r := w.replica(uint32(i+1), vfs.Default, &listMachine{applies: make(chan int, 16)}, "n1", "n2", "n3")
			replicas, hubs = append(replicas, r), append(hubs, r.hub)
			if i > 0 {
				r.machine.applies = nil
			}
		}
		leader := leaderOf(b, replicas)
		replicas[0].machine.applies, leader.machine.applies = nil, replicas[0].machine.applies
		value := string(make([]byte, 100))
		var took []time.Duration
		measured(b, hubs, func() {
			for range b.N {
				began := time.Now()
				leader.source.add(value)
				leader.group.Kick()
				<-leader.machine.applies
				took = append(took, time.Since(began))
			}
		})
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "p99-ms")
		for _, r := range replicas {
			r.close(b)
		}
	})
}
