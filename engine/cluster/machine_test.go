package cluster

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"parley/raft"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A log is a Raft group of one or more machines, without Raft: what the leader's source
// gives is applied by all of them.
type log struct {
	t        *testing.T
	machines []*Machine
	index    uint64
	entries  []raft.Entry
}

func openLog(t *testing.T, machines ...*Machine) *log {
	l := &log{t: t, machines: machines, index: 1}
	for _, m := range machines {
		if err := m.Configure(1, 1, []byte("voters")); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func openMachine(t *testing.T, fs vfs.FS, nonce uint64) *Machine {
	t.Helper()
	m, err := OpenMachine(fs, "map", nonce)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// commit makes entries of what the first machine has queued, and applies them everywhere.
func (l *log) commit() {
	for {
		data, _, ok := l.machines[0].Next(nil)
		if !ok {
			return
		}
		l.index++
		e := raft.Entry{Index: l.index, Term: 1, Data: data}
		l.entries = append(l.entries, e)
		for i := len(l.machines) - 1; i >= 0; i-- {
			if err := l.machines[i].Apply([]raft.Entry{e}); err != nil {
				l.t.Error(err)
			}
		}
	}
}

// lead makes the first machine lead: each kick is a commit.
func (l *log) lead() *Machine {
	l.machines[0].Attach(l.commit)
	l.machines[0].Lead(1)
	return l.machines[0]
}

func TestProposalsAreAnsweredByWhatWasApplied(t *testing.T) {
	l := openLog(t, openMachine(t, vfs.NewMem(), 1), openMachine(t, vfs.NewMem(), 2))
	leader, follower := l.lead(), l.machines[1]
	for i, c := range []Change{foundation(4), AddNode{describe(2)}, AddNode{describe(3)}} {
		result, err := leader.Propose(t.Context(), c)
		if err != nil || result.Node != uint32(i+1) || result.Epoch != uint64(i+1) {
			t.Errorf("%T: %+v %v", c, result, err)
		}
	}
	epoch := leader.Map().Epoch
	if _, err := leader.Propose(t.Context(), AddNode{Node{Address: describe(2).Address, Name: "x", Identity: "y", Version: 1}}); !errors.Is(err, ErrDuplicateAddress) {
		t.Error(err)
	}
	if leader.Map().Epoch != epoch || !reflect.DeepEqual(leader.Map(), follower.Map()) || leader.Applied() != l.index {
		t.Errorf("replicas differ, or a refused change counts")
	}
	if _, err := follower.Propose(t.Context(), SetCopies{5}); !errors.Is(err, raft.ErrNotLeader) {
		t.Errorf("proposed on a follower: %v", err)
	}
}

func TestSubscribersSeeEveryMapInOrder(t *testing.T) {
	l := openLog(t, openMachine(t, vfs.NewMem(), 1))
	leader := l.lead()
	var seen, view []uint64
	cancel := leader.Subscribe(func(m *Map) { seen = append(seen, m.Epoch) })
	var v View
	leader.Subscribe(func(m *Map) { v.Offer(m) })
	v.Subscribe(func(m *Map) { view = append(view, m.Epoch) })
	for _, c := range []Change{foundation(4), AddNode{describe(2)}, AddNode{describe(2)}} {
		if _, err := leader.Propose(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if _, err := leader.Propose(t.Context(), SetCopies{5}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(seen, []uint64{0, 1, 2}) || !reflect.DeepEqual(view, []uint64{0, 1, 2, 3}) {
		t.Errorf("%v %v", seen, view)
	}
}

func TestViewTakesOnlyNewerMapsOfItsCluster(t *testing.T) {
	var v View
	old := founded(t, 1, 1)
	newer := founded(t, 2, 1)
	other := apply(t, &Map{}, Found{Cluster: 5, Shards: 1, Replica: NewReplica(1, 1).ID, MapReplica: NewReplica(1, 1).ID, Replicas: 3, Version: 1, Node: describe(1)},
		AddNode{describe(2)}, AddNode{describe(3)})
	for i, c := range []struct {
		m     *Map
		taken bool
	}{{&Map{}, false}, {newer, true}, {old, false}, {newer, false}, {other, false}} {
		if v.Offer(c.m) != c.taken {
			t.Errorf("offer %d: taken %v", i, !c.taken)
		}
	}
	if v.Map() != newer {
		t.Errorf("epoch %d", v.Map().Epoch)
	}
}

func TestProposalsThatFailSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMachine(t, vfs.NewMem(), 1)
		if _, err := m.Propose(t.Context(), foundation(1)); !errors.Is(err, raft.ErrNotLeader) {
			t.Errorf("before leading: %v", err)
		}
		m.Lead(3)
		if m.Term() != 3 {
			t.Errorf("leads in term %d", m.Term())
		}
		fates := make(chan error, ProposalsMax)
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		for range ProposalsMax {
			waiting.Go(func() {
				_, err := m.Propose(ctx, foundation(1))
				fates <- err
			})
		}
		synctest.Wait()
		if _, err := m.Propose(ctx, foundation(1)); !errors.Is(err, ErrQueueFull) {
			t.Errorf("one too many: %v", err)
		}
		want := func(what string, sentinel error, n int) {
			t.Helper()
			synctest.Wait()
			for range n {
				if err := <-fates; !errors.Is(err, sentinel) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if len(fates) > 0 {
				t.Errorf("%s: %d fates too many", what, len(fates))
			}
		}
		_, first, _ := m.Next(nil)
		entry, _, _ := m.Next(nil)
		if _, _, ok := m.Next(nil); !ok {
			t.Error("no third")
		}
		m.Failed(first, raft.ErrTimeout)
		want("failed", raft.ErrTimeout, 1)
		m.Follow()
		want("never proposed", raft.ErrNotLeader, ProposalsMax-3)
		if err := m.Apply([]raft.Entry{{Index: 2, Term: 3, Data: bytes.Clone(entry)}}); err != nil {
			t.Error(err)
		}
		want("applied after all", nil, 1)
		cancel()
		want("given up", context.Canceled, 1)
		m.Lead(4)
		waiting.Go(func() {
			_, err := m.Propose(t.Context(), SetCopies{5})
			fates <- err
		})
		synctest.Wait()
		m.Next(nil)
		m.Close()
		want("closed", raft.ErrClosed, 1)
		if _, err := m.Propose(t.Context(), SetCopies{5}); !errors.Is(err, raft.ErrClosed) {
			t.Errorf("after closing: %v", err)
		}
		waiting.Wait()
	})
}

func TestEntriesOfOtherLivesAnswerNobody(t *testing.T) {
	l := openLog(t, openMachine(t, vfs.NewMem(), 1))
	leader := l.lead()
	foreign := appendEntry(nil, origin{2, 1}, AppendChange(nil, foundation(1)))
	leader.Attach(func() {
		l.index++
		if err := leader.Apply([]raft.Entry{{Index: l.index, Term: 1, Data: foreign}}); err != nil {
			t.Error(err)
		}
		l.commit()
	})
	if _, err := leader.Propose(t.Context(), SetCopies{5}); err != nil {
		t.Error(err)
	}
}

func TestBadEntriesStopTheMachine(t *testing.T) {
	good := appendEntry(nil, origin{1, 1}, AppendChange(nil, foundation(1)))
	for i := range good {
		m := openMachine(t, vfs.NewMem(), 1)
		bad := bytes.Clone(good)
		bad[i]++
		err := m.Apply([]raft.Entry{{Index: 2, Term: 1, Data: bad}})
		if header := i > 0 && i < entryHeaderSize; header != (err == nil) || err != nil && !errors.Is(err, ErrBadEntry) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

// TestMachineSurvivesCrashes persists now and then, crashes with a random part of what
// was not synced, replays the rest of the log, and must be where it was.
func TestMachineSurvivesCrashes(t *testing.T) {
	disk := vfs.NewCrashableMem()
	l := openLog(t, openMachine(t, disk, 1))
	leader := l.lead()
	persisted := uint64(0)
	for i := range 60 {
		c := Change(foundation(3))
		if i > 0 {
			c = AddNode{describe(i + 1)}
		}
		if _, err := leader.Propose(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if i%4 == 1 {
			if err := leader.Persist(t.Context(), l.index-1); err != nil {
				t.Fatal(err)
			}
			persisted = l.index
		}
		if i%7 != 3 {
			continue
		}
		want := leader.Map()
		disk = disk.CrashClone(vfs.CrashCloneCfg{})
		leader = openMachine(t, disk, uint64(i))
		if got := leader.Record().Index; got != persisted {
			t.Fatalf("record at %d, persisted %d", got, persisted)
		}
		if persisted == 0 {
			_ = leader.Configure(1, 1, []byte("voters"))
		}
		if err := leader.Apply(l.entries); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(leader.Map(), want) {
			t.Fatalf("epoch %d after %d entries, want %d", leader.Map().Epoch, len(l.entries), want.Epoch)
		}
		l.machines[0] = leader
		l.lead()
	}
	if err := leader.Persist(t.Context(), l.index+1); err == nil {
		t.Error("what was not applied was persisted")
	}
}

func TestSnapshotsAreInstalledOnlyForward(t *testing.T) {
	l := openLog(t, openMachine(t, vfs.NewMem(), 1))
	leader := l.lead()
	if _, err := leader.Propose(t.Context(), foundation(3)); err != nil {
		t.Fatal(err)
	}
	disk := vfs.NewCrashableMem()
	behind := openMachine(t, disk, 2)
	record, state, err := leader.snapshot(t.Context())
	if err != nil || record.Index != l.index {
		t.Fatalf("%+v %v", record, err)
	}
	told := 0
	behind.Subscribe(func(m *Map) { told++ })
	if err := behind.Install(record, bytes.NewReader(state)); err != nil {
		t.Fatal(err)
	}
	again := openMachine(t, disk.CrashClone(vfs.CrashCloneCfg{}), 3)
	for _, m := range []*Machine{behind, again} {
		if !reflect.DeepEqual(m.Map(), leader.Map()) || !reflect.DeepEqual(m.Record(), record) || m.Applied() != l.index {
			t.Errorf("installed %+v, want %+v", m.Record(), record)
		}
	}
	if told != 2 {
		t.Errorf("told %d times", told)
	}
	if err := behind.Install(record, bytes.NewReader(state)); !errors.Is(err, ErrOldSnapshot) {
		t.Errorf("installed twice: %v", err)
	}
	record.Index++
	if err := behind.Install(record, bytes.NewReader(state)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a snapshot of another index: %v", err)
	}
	state[9]++
	if err := behind.Install(record, bytes.NewReader(state)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged snapshot: %v", err)
	}
}

func TestDamagedFilesAreToldFromMissingOnes(t *testing.T) {
	fs := vfs.NewMem()
	if m, err := ReadMap(fs, "copy"); err != nil || m.Founded() {
		t.Errorf("no file: %v", err)
	}
	want := rich(t)
	if err := WriteMap(fs, "copy", want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadMap(fs, "copy"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	good := appendState(nil, raft.Record{Index: 5, Term: 2, ConfigurationIndex: 1, Configuration: []byte("c")}, want)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if err := writeFile(fs, "map", bad); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenMachine(fs, "map", 1); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if _, err := ReadMap(fs, "map"); !errors.Is(err, ErrDamaged) {
			t.Fatalf("read as a copy: %v", err)
		}
	}
}

func FuzzParseState(f *testing.F) {
	b := appendState(nil, raft.Record{Index: 5, Term: 2, ConfigurationIndex: 1, Configuration: []byte("c")}, rich(f))
	f.Add(b[:len(b)-checksumSize])
	f.Fuzz(func(t *testing.T, body []byte) {
		b := seal(body, 0)
		r, m, err := parseState(b)
		if err != nil {
			return
		}
		if again := appendState(nil, r, m); !bytes.Equal(again, b) {
			t.Errorf("%x\nencoded again %x", b, again)
		}
	})
}
