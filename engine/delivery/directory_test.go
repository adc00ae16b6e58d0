package delivery

import (
	"slices"
	"sync"
	"testing"

	"parley/wire"

	"pgregory.net/rapid"
)

// The directory behaves like a map of maps, whatever is entered and removed.
func TestDirectoryAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := NewDirectory()
		model := map[wire.ID]map[wire.ID]uint64{}
		id := rapid.Map(rapid.Uint64Range(1, 40), func(n uint64) wire.ID { return wire.ID(n) })
		handle := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				user, device := id.Draw(t, "user"), id.Draw(t, "device")
				handle++
				if got, want := d.Put(user, device, handle), model[user][device]; got != want {
					t.Fatalf("replaced %d, want %d", got, want)
				}
				if model[user] == nil {
					model[user] = map[wire.ID]uint64{}
				}
				model[user][device] = handle
			},
			"remove": func(t *rapid.T) {
				user, device := id.Draw(t, "user"), id.Draw(t, "device")
				current := model[user][device]
				if rapid.Bool().Draw(t, "stale") {
					d.Remove(user, device, current+1) // a session that was replaced changes nothing
					return
				}
				d.Remove(user, device, current)
				delete(model[user], device)
			},
			"": func(t *rapid.T) {
				for user := wire.ID(1); user <= 40; user++ {
					got := d.Append(nil, user)
					var want []Entry
					for device, h := range model[user] {
						want = append(want, Entry{device, h})
					}
					byDevice := func(a, b Entry) int { return int(a.Device) - int(b.Device) }
					slices.SortFunc(got, byDevice)
					slices.SortFunc(want, byDevice)
					if !slices.Equal(got, want) {
						t.Fatalf("user %d: %v, want %v", user, got, want)
					}
				}
			},
		})
	})
}

// Users share stripes and tables while goroutines enter and remove them.
func TestDirectoryIsSafeForManyGoroutines(t *testing.T) {
	d := NewDirectory()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5_000 {
				user := wire.ID(1 + (i*8+g)%3_000)
				h := uint64(g)<<32 | uint64(i)
				d.Put(user, wire.ID(g+1), h)
				d.Append(nil, user)
				if i%2 == 0 {
					d.Remove(user, wire.ID(g+1), h)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for user := wire.ID(1); user <= 3_000; user++ {
		total += len(d.Append(nil, user))
	}
	if total == 0 || total > 3_000*8 {
		t.Fatalf("%d sessions", total)
	}
}

func BenchmarkDirectoryAppend(b *testing.B) {
	d := NewDirectory()
	const users = 1 << 20
	for i := range users {
		d.Put(wire.ID(i+1), 1, uint64(i+1))
	}
	b.ReportAllocs()
	var entries []Entry
	for i := 0; b.Loop(); i++ {
		entries = d.Append(entries[:0], wire.ID(mix(wire.ID(i))%users+1))
	}
}
