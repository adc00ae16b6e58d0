package sim

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"parley/engine/router"
	"parley/storage"
	"parley/wire"
)

// settleTime is what followers are given to apply the last entry, in virtual time: they
// hear of its commit with the next message.
const settleTime = 3 * time.Second

// compare stops all nodes and notes what each replica has, as it lies on its disk.
func (w *world) compare() error {
	time.Sleep(settleTime)
	var stopping sync.WaitGroup
	for _, m := range w.members() {
		m.Hold(time.Hour)
		stopping.Go(func() {
			if err := m.Stop(context.Background()); err != nil {
				w.log("%s: stop: %v", m.name, err)
			}
		})
	}
	stopping.Wait()
	conversations := w.recorder.History().conversations()
	for _, m := range w.members() {
		list, err := readReplicas(m, w.config.Shards, w.users, conversations)
		if err != nil {
			return fmt.Errorf("sim: the disk of %s cannot be read: %w", m.name, err)
		}
		w.recorder.Add(func(h *History) { h.Replicas = append(h.Replicas, list...) })
	}
	return nil
}

// readReplicas reads the state of a machine whose node was stopped.
func readReplicas(m *Machine, shards int, users []wire.ID, conversations []wire.Conversation) (list []Replica, err error) {
	if m.Flipped() || m.Lost() {
		return nil, nil // what is damaged is found when it is read, and not compared
	}
	var fatal error
	store, err := storage.Open(storage.Options{Path: "data/state", FS: m.Disk(), Logger: m.logger, Fatal: func(err error) { fatal = err }})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close(), fatal) }()
	table, err := router.NewTable(shards)
	if err != nil {
		return nil, err
	}
	for i := range shards {
		slots := table.Range(i)
		s, err := store.Shard(uint32(i), slots.First, slots.Last)
		if err != nil {
			return nil, err
		}
		r := Replica{Node: m.name, Shard: i, Index: s.Record().Index}
		if r.Index == 0 {
			continue // it has none of this one
		}
		sum := sha256.New()
		err = s.View(func(r *storage.Reader) error {
			return digest(sum, r, slots, users, conversations)
		})
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", i, err)
		}
		sum.Sum(r.Hash[:0])
		list = append(list, r)
	}
	return list, nil
}

// digest hashes all that a shard has of users and conversations, as its readers see it:
// files differ with the times of flushes.
func digest(sum hash.Hash, r *storage.Reader, slots router.Range, users []wire.ID, conversations []wire.Conversation) error {
	owns := func(slot wire.Slot) bool { return slots.First <= slot && slot <= slots.Last }
	var errs []error
	note := func(value any, err error) {
		fmt.Fprintf(sum, "%+v\n", value)
		errs = append(errs, err)
	}
	for _, user := range users {
		note(nil, r.UserIndex(user, 0, func(u storage.UserIndex) error { note(u, nil); return nil }))
		if !owns(user.Slot()) {
			continue
		}
		u, _, err := r.User(user)
		note(u, err)
		note(nil, r.List(user, 0, func(l storage.List) error { note(l, nil); return nil }))
	}
	for _, c := range conversations {
		if !owns(c.Slot()) {
			continue
		}
		record, ok, err := r.Conversation(c)
		note(record, err)
		if !ok {
			continue
		}
		for _, user := range []wire.ID{c.A, c.B} {
			member, _, err := r.Member(c, user)
			note(member, err)
		}
		note(nil, r.Messages(c, 1, record.Head, func(m storage.Message) (bool, error) { note(m, nil); return true, nil }))
	}
	note(nil, r.Outgoing(func(o storage.Outgoing) error { note(o, nil); return nil }))
	return errors.Join(errs...)
}
