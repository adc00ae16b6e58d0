package reactor

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The load of the benchmarks comes from a process of its own, so that the server's CPU
// time and memory are the server's alone, and each has its own file limit. It is this
// test binary, started again with clientVariable set.
const clientVariable = "REACTOR_BENCH_CLIENT" // address connections window messages

func TestMain(m *testing.M) {
	if job := os.Getenv(clientVariable); job != "" {
		benchClient(job)
		return
	}
	if os.Getenv(serverVariable) != "" {
		fewFiles()
		return
	}
	os.Exit(m.Run())
}

// benchClient connects, says so, waits for a line, runs its load, says so, and leaves
// when its input ends.
func benchClient(job string) {
	var address string
	var connections, window, messages int
	if _, err := fmt.Sscan(job, &address, &connections, &window, &messages); err != nil {
		panic(err)
	}
	conns := make([]net.Conn, connections)
	for i := range conns {
		conns[i] = benchConnect(address)
	}
	fmt.Println("connected")
	line := make([]byte, 1)
	_, _ = os.Stdin.Read(line)
	if messages > 0 {
		var wg sync.WaitGroup
		for _, c := range conns {
			wg.Go(func() { benchEcho(c, window, messages/connections) })
		}
		wg.Wait()
		fmt.Println("done")
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func benchConnect(address string) net.Conn {
	c, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	if _, err = c.Write([]byte(request)); err != nil {
		panic(err)
	}
	var response []byte
	b := make([]byte, 256)
	for !bytes.HasSuffix(response, []byte("\r\n\r\n")) {
		n, err := c.Read(b)
		if err != nil {
			panic(err)
		}
		response = append(response, b[:n]...)
	}
	return c
}

// benchEcho keeps a window of 64-byte messages under way. The server may answer all of
// a window in one message, so it counts bytes, without headers of which it knows only
// that they are shorter than a message.
func benchEcho(c net.Conn, window, messages int) {
	const size = 64
	one := frame(opBinary, strings.Repeat("m", size))
	burst := bytes.Repeat(one, window)
	b := make([]byte, 64<<10)
	for sent := 0; sent < messages; sent += window {
		if _, err := c.Write(burst); err != nil {
			panic(err)
		}
		for got := 0; got < window*size; {
			n, err := c.Read(b)
			if err != nil {
				panic(err)
			}
			got += bytes.Count(b[:n], []byte("m"))
		}
	}
}

// A load is a client process.
type load struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.Reader
	lineOf [16]byte
}

func startLoad(b *testing.B, s *Server, connections, window, messages int) *load {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d %d", clientVariable, s.Address(), connections, window, messages))
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	l := &load{cmd: cmd, in: in, out: out}
	b.Cleanup(l.stop)
	l.await(b, "connected\n")
	return l
}

func (l *load) await(b *testing.B, line string) {
	if _, err := io.ReadFull(l.out, l.lineOf[:len(line)]); err != nil || string(l.lineOf[:len(line)]) != line {
		b.Fatalf("client said %q, %v", l.lineOf[:len(line)], err)
	}
}

func (l *load) run(b *testing.B) {
	_, _ = l.in.Write([]byte{'\n'})
	l.await(b, "done\n")
}

func (l *load) stop() {
	_ = l.in.Close()
	_ = l.cmd.Wait()
}

// An echo answers each message with itself.
type echo struct{ l *Loop }

func (e echo) Opened(Handle)                    {}
func (e echo) Message(h Handle, payload []byte) { e.l.Write(h, payload) }
func (e echo) Closed(Handle)                    {}
func (e echo) Writable(Handle)                  {}
func (e echo) Expired(Handle)                   {}
func (e echo) Inbox(items []any) {
	for _, item := range items {
		item.(func())()
	}
}

func benchListen(b *testing.B, handler func(l *Loop) Handler) *Server {
	s, err := Listen(Config{Address: "127.0.0.1:0", Loops: 1, Subprotocol: "parley.v1", HandshakesMax: 1 << 20, NewHandler: handler})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func residentBytes(b *testing.B) int {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip(err)
	}
	pages, _ := strconv.Atoi(strings.Fields(string(statm))[1])
	return pages * os.Getpagesize()
}

// BenchmarkEcho is the CPU time and the allocations of the server for each 64-byte
// message that comes back, over 100 connections.
func BenchmarkEcho(b *testing.B) {
	for _, window := range []int{1, 16} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			s := benchListen(b, func(l *Loop) Handler { return echo{l} })
			messages := max(b.N/(100*window), 1) * 100 * window
			l := startLoad(b, s, 100, window, messages)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := cpuTime()
			b.ResetTimer()
			l.run(b)
			b.StopTimer()
			cpu := cpuTime() - start
			runtime.ReadMemStats(&after)
			stats := s.Stats()
			b.ReportMetric(float64(cpu)/1e3/float64(messages), "cpu-us/message")
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(messages), "allocs/message")
			b.ReportMetric(float64(stats.Writes)/float64(messages), "writes/message")
		})
	}
}

// BenchmarkFanOut is the CPU time of the server for each delivery of a 66-byte frame
// to 1,000 sessions from another goroutine, with so many posts between two wake-ups.
func BenchmarkFanOut(b *testing.B) {
	for _, posts := range []int{1, 4} {
		b.Run(fmt.Sprintf("posts=%d", posts), func(b *testing.B) {
			const sessions = 1000
			var handles []Handle
			s := benchListen(b, func(l *Loop) Handler { return &collector{echo{l}, &handles} })
			startLoad(b, s, sessions, 1, 0)
			push := bytes.Repeat([]byte("p"), 66)
			done := make(chan struct{}, 1)
			l := s.Loop(0)
			deliver := func() {
				for _, h := range handles {
					l.Write(h, push)
				}
			}
			signal := func() { done <- struct{}{} }
			start := cpuTime()
			b.ResetTimer()
			for range b.N {
				for range posts {
					l.Post(deliver)
				}
				l.Post(signal)
				<-done
			}
			b.StopTimer()
			b.ReportMetric(float64(cpuTime()-start)/1e3/float64(b.N*posts*sessions), "cpu-us/delivery")
		})
	}
}

type collector struct {
	echo
	handles *[]Handle
}

func (c *collector) Opened(h Handle) { *c.handles = append(*c.handles, h) }

// BenchmarkIdle is the resident memory of the server for each of 18,000 upgraded
// sessions that say nothing, and the CPU time that it took to accept and upgrade one.
func BenchmarkIdle(b *testing.B) {
	const sessions = 18_000
	for range b.N {
		s := benchListen(b, func(l *Loop) Handler { return echo{l} })
		debug.FreeOSMemory()
		before, start := residentBytes(b), cpuTime()
		l := startLoad(b, s, sessions, 1, 0)
		cpu := cpuTime() - start
		resident := residentBytes(b) - before
		debug.FreeOSMemory()
		collected := residentBytes(b) - before
		b.ReportMetric(float64(resident)/sessions, "B/session")
		b.ReportMetric(float64(collected)/sessions, "B/session-after-GC")
		b.ReportMetric(float64(cpu)/1e3/sessions, "cpu-us/connect")
		l.stop()
		_ = s.Close()
	}
}
