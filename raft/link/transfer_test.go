package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"

	"parley/raft"
)

func snapshotOf(size int) ([]byte, *hraft.InstallSnapshotRequest) {
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data) // never fails
	return data, &hraft.InstallSnapshotRequest{
		RPCHeader:       hraft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1"), Addr: []byte("n1")},
		SnapshotVersion: 1, Term: 9, Leader: []byte("n1"), LastLogIndex: 1000, LastLogTerm: 8,
		Configuration: []byte("who votes"), ConfigurationIndex: 77, Size: int64(size),
	}
}

// receiver takes one snapshot.
func receiver(t *transport, take func(rpc hraft.RPC)) (wait func()) {
	var running sync.WaitGroup
	running.Go(func() {
		select {
		case rpc := <-t.Consumer():
			take(rpc)
		case <-t.closed:
		}
	})
	return running.Wait
}

func TestSnapshotsArriveWhole(t *testing.T) {
	for _, size := range []int{0, 1, transferBytes, 5<<20 + 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			everywhere(t, func(t *testing.T, w *world) {
				a, b := pair(t, w.mesh(2), 5)
				data, request := snapshotOf(size)
				wait := receiver(b, func(rpc hraft.RPC) {
					got, err := io.ReadAll(rpc.Reader)
					r := rpc.Command.(*hraft.InstallSnapshotRequest)
					if err != nil || !bytes.Equal(got, data) || fmt.Sprint(r) != fmt.Sprint(request) {
						t.Errorf("%d bytes with %+v, %v", len(got), r, err)
					}
					rpc.Respond(&hraft.InstallSnapshotResponse{Term: 9, Success: true}, nil)
				})
				var answer hraft.InstallSnapshotResponse
				if err := a.InstallSnapshot("n2", "n2", request, &answer, bytes.NewReader(data)); err != nil || answer.Term != 9 || !answer.Success {
					t.Errorf("%+v, %v", answer, err)
				}
				wait()
			})
		})
	}
}

func TestSnapshotsThatCannotBeInstalledSayWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(2)
		a, b := pair(t, hubs, 5)
		send := func(target hraft.ServerAddress, data []byte) error {
			_, request := snapshotOf(1000)
			return a.InstallSnapshot("", target, request, &hraft.InstallSnapshotResponse{}, bytes.NewReader(data))
		}
		want := func(err error, text string) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%v, want %q", err, text)
			}
		}
		data := make([]byte, 1000)
		want(send("n2-earlier", data), "replica n2-earlier of group 5 is not here")
		want(send("n3", data), "no link to node 3")
		wait := receiver(b, func(rpc hraft.RPC) {
			_, err := io.Copy(io.Discard, rpc.Reader)
			rpc.Respond(nil, errors.Join(errors.New("the disk is full"), err))
		})
		want(send("n2", data), "the disk is full")
		wait()
		wait = receiver(b, func(rpc hraft.RPC) {
			if n, err := io.Copy(io.Discard, rpc.Reader); n > 500 || err == nil && n == 1000 {
				t.Errorf("%d bytes, %v", n, err)
			}
			rpc.Respond(&hraft.InstallSnapshotResponse{}, nil)
		})
		want(send("n2", data[:500]), "read snapshot: unexpected EOF")
		wait()
		if err := hubs[1].Close(); err != nil {
			t.Error(err)
		}
		want(send("n2", data), "connection refused")
	})
}

func TestOnlySoManySnapshotsAreReceivedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		hubs := w.mesh(3)
		release := make(chan struct{})
		var sending sync.WaitGroup
		for g := range uint32(TransfersMax) {
			a, b := pair(t, hubs, g)
			wait := receiver(b, func(rpc hraft.RPC) {
				<-release
				_, _ = io.Copy(io.Discard, rpc.Reader)
				rpc.Respond(&hraft.InstallSnapshotResponse{}, nil)
			})
			sending.Go(wait)
			sending.Go(func() {
				data, request := snapshotOf(1 << 20)
				if err := a.InstallSnapshot("n2", "n2", request, &hraft.InstallSnapshotResponse{}, bytes.NewReader(data)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		c, err := hubs[2].Network().Transport(9, "n3")
		if err != nil {
			t.Fatal(err)
		}
		data, request := snapshotOf(10)
		if err := c.InstallSnapshot("n2", "n2", request, &hraft.InstallSnapshotResponse{}, bytes.NewReader(data)); err == nil || !strings.Contains(err.Error(), "receiving other snapshots") {
			t.Errorf("one too many there: %v", err)
		}
		// Here one more waits, and its wait ends with its transport.
		d, err := hubs[0].Network().Transport(9, "n1")
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error, 1)
		go func() {
			waiting <- d.InstallSnapshot("n2", "n2", request, &hraft.InstallSnapshotResponse{}, bytes.NewReader(data))
		}()
		synctest.Wait()
		if len(waiting) > 0 {
			t.Errorf("one too many here: %v", <-waiting)
		}
		if err := errors.Join(c.Close(), d.Close()); err != nil {
			t.Error(err)
		}
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("a wait whose transport was closed: %v", err)
		}
		close(release)
		sending.Wait()
	})
}

func TestTransfersEndWithTheirReplicasAndPeers(t *testing.T) {
	for what, end := range map[string]func(w *world, hubs []*Hub, a, b *transport){
		"sender's replica":   func(_ *world, _ []*Hub, a, _ *transport) { a.Close() },
		"receiver's replica": func(_ *world, _ []*Hub, _, b *transport) { b.Close() },
		"sender":             func(_ *world, hubs []*Hub, _, _ *transport) { hubs[0].Close() },
		"receiver":           func(_ *world, hubs []*Hub, _, _ *transport) { hubs[1].Close() },
		"peer unwanted":      func(_ *world, hubs []*Hub, _, _ *transport) { hubs[0].Connect(nil) },
		"network":            func(w *world, _ []*Hub, _, _ *transport) { w.cut(1, 2); w.cut(2, 1) },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, false)
				hubs := w.mesh(2)
				a, b := pair(t, hubs, 5)
				reading := make(chan struct{})
				wait := receiver(b, func(rpc hraft.RPC) {
					_, _ = io.ReadFull(rpc.Reader, make([]byte, 1000))
					close(reading)
					n, err := io.Copy(io.Discard, rpc.Reader)
					if err == nil && n == 1<<20-1000 {
						t.Error("all of it arrived")
					}
					rpc.Respond(nil, err)
				})
				data, request := snapshotOf(1 << 20)
				done := make(chan error, 1)
				half := &stalling{b: data[:1<<19], release: make(chan struct{})}
				go func() {
					done <- a.InstallSnapshot("n2", "n2", request, &hraft.InstallSnapshotResponse{}, half)
				}()
				<-reading
				synctest.Wait()
				end(w, hubs, a, b)
				time.Sleep(deadAfter + 2*pingInterval)
				close(half.release)
				if err := <-done; err == nil {
					t.Error("it says that it was installed")
				}
				wait()
			})
		})
	}
}

// stalling gives its bytes, and the same again when it is released.
type stalling struct {
	b       []byte
	given   int
	release chan struct{}
}

func (s *stalling) Read(p []byte) (int, error) {
	if s.given >= len(s.b) {
		<-s.release
	}
	n := copy(p, s.b[s.given%len(s.b):])
	s.given += n
	return n, nil
}

func TestALearnerGetsASnapshotOverItsOwnConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		replicas := w.trio()
		for _, r := range replicas {
			r.hub.Connect([]uint32{1, 2, 3, 4})
			r.machine.pad = 3 << 20
		}
		// Enough that a replica without anything is behind the log's start.
		large := strings.Repeat("x", raft.EntryBytesMax-16)
		for i := range 12 {
			var values []string
			for k := range 32 {
				values = append(values, fmt.Sprint(large, i, " ", k))
			}
			commit(t, replicas, values...)
		}
		leader := leaderOf(t, replicas)
		leader.group.Compact()
		eventually(t, "truncation", func() bool { return leader.group.Stats().First > 1 })
		learner := w.replica(4, vfs.NewMem(), &listMachine{pad: 3 << 20})
		learner.hub.Connect([]uint32{1, 2, 3})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		eventually(t, "a learner", func() bool { return leaderOf(t, replicas).group.AddLearner(ctx, "n4") == nil })
		commit(t, replicas, "the end")
		eventually(t, "the learner's state", func() bool {
			return learner.machine.installed() && slices.Equal(learner.machine.applied(), replicas[0].machine.applied())
		})
		for _, r := range append(replicas, learner) {
			r.close(t)
		}
	})
}

func (m *listMachine) installed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.install > 0
}
