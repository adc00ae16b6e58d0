package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire"
)

// A viewTest is a shard, its model and the seeds that made it, so that the model of any
// earlier moment can be made again.
type viewTest struct {
	store *Store
	shard *Shard
	model *model
	seeds []uint64
}

func newViewTest(t *testing.T, bufferBytes int64) *viewTest {
	s := openTest(t, vfs.NewMem(), testPath, bufferBytes)
	t.Cleanup(func() { closeTest(t, s) })
	return &viewTest{store: s, shard: openShard(t, s), model: newModel(newUniverse(1), 0, wire.Slots-1)}
}

func (v *viewTest) update(seed uint64) error {
	v.seeds = append(v.seeds, seed)
	return v.shard.Update(v.model.step(seed))
}

// at is the model after so many updates.
func (v *viewTest) at(updates int) *model {
	m := newModel(v.model.universe, v.model.first, v.model.last)
	for _, seed := range v.seeds[:updates] {
		m.step(seed)
	}
	return m
}

// nest opens a view, goes on with updates and flushes, opens the next view inside, and at
// the end sees what the view saw at first. Nothing of it waits for the view to end.
func (v *viewTest) nest(t *testing.T, r *rand.Rand, depth int) error {
	if depth == 0 {
		return nil
	}
	moment := len(v.seeds)
	return v.shard.View(func(reader *Reader) error {
		for range 1 + r.IntN(12) {
			if err := v.update(r.Uint64()); err != nil {
				return err
			}
		}
		if r.IntN(3) == 0 {
			if err := v.store.Flush(t.Context()); err != nil {
				return err
			}
		}
		if err := v.nest(t, r, depth-1); err != nil {
			return err
		}
		if err := v.at(moment).compare(reader); err != nil {
			return fmt.Errorf("the view of update %d, after %d: %w", moment, len(v.seeds), err)
		}
		return nil
	})
}

// A view sees the moment at which it began, however many updates and flushes come before
// it has read, and none of them waits for it.
func TestAViewSeesItsMomentWhateverComesAfter(t *testing.T) {
	for seed := range uint64(10) {
		v := newViewTest(t, 1<<20)
		r := rand.New(rand.NewPCG(seed, 11))
		for range 4 {
			if err := v.nest(t, r, 1+r.IntN(4)); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := v.shard.View(v.model.compare); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}

// Views, updates and flushes at the same time: each view is whole, and of one update.
func TestViewsAreWholeBesideUpdatesAndFlushes(t *testing.T) {
	const updates, viewers = 200, 3
	v := newViewTest(t, 64<<10)
	plan := make([]uint64, updates)
	r := rand.New(rand.NewPCG(3, 11))
	for i := range plan {
		plan[i] = r.Uint64()
	}
	v.seeds = plan
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range viewers {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := v.shard.View(func(r *Reader) error {
					m := newModel(v.model.universe, v.model.first, v.model.last)
					for i := 0; m.record.Index < r.Applied().Index; i++ {
						m.step(plan[i])
					}
					return m.compare(r)
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i, seed := range plan {
		if err := v.shard.Update(v.model.step(seed)); err != nil {
			t.Fatal(err)
		}
		if i%40 == 0 {
			if err := v.store.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	readers.Wait()
}

// What views held is given back: the buffer's memory after the last view that saw it, and
// what was kept aside for views at the first update without any.
func TestViewsGiveBackWhatTheyHeld(t *testing.T) {
	v := newViewTest(t, 1<<20)
	for seed := range uint64(20) {
		if err := v.update(seed); err != nil {
			t.Fatal(err)
		}
	}
	b := v.shard.active
	err := v.shard.View(func(*Reader) error {
		for seed := range uint64(40) {
			if err := v.update(seed); err != nil {
				return err
			}
		}
		if len(b.old)+len(b.oldOpen) == 0 || len(b.oldOpen) > 40 {
			t.Errorf("%d records and %d chunks were kept", len(b.old), len(b.oldOpen))
		}
		return nil
	})
	if err == nil {
		err = v.update(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(b.old)+len(b.oldOpen) != 0 || b.holders.Load() != 1 {
		t.Errorf("%d records, %d chunks and %d holders are left", len(b.old), len(b.oldOpen), b.holders.Load())
	}
	err = v.shard.View(func(*Reader) error {
		if err := v.store.Flush(t.Context()); err != nil {
			return err
		}
		if b.holders.Load() != 1 || b.arena.slabs == nil {
			t.Errorf("%d holders while a view sees an ingested buffer", b.holders.Load())
		}
		return nil
	})
	if err != nil || b.holders.Load() != 0 || b.arena.slabs != nil {
		t.Errorf("%d holders of an ingested buffer that nobody sees (%v)", b.holders.Load(), err)
	}
}

// A view during which the state is replaced says so, whatever it has read.
func TestAViewOfAReplacedStateFails(t *testing.T) {
	v := newViewTest(t, 1<<20)
	if err := v.update(1); err != nil {
		t.Fatal(err)
	}
	err := v.shard.View(func(*Reader) error {
		v.shard.mu.Lock()
		defer v.shard.mu.Unlock()
		v.shard.clear()
		v.shard.active = newBuffer(&v.store.slabs, nil)
		return nil
	})
	if !errors.Is(err, ErrReplaced) {
		t.Fatalf("%v, want ErrReplaced", err)
	}
}
