//go:build linux

package core

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"

	"parley/storage"
)

// verify reads every conversation of a shard on all replicas: each must hold what was
// acknowledged, message by message, and all must hold the same. Nothing is being applied.
func (t *traffic) verify() {
	for i := range t.writers {
		w := &t.writers[i]
		var first uint64
		for place, n := range t.run.cluster.nodes {
			var sum uint64
			err := n.states[t.shard].View(func(r *storage.Reader) (err error) {
				sum, err = t.read(r, w)
				return err
			})
			switch {
			case err != nil:
				t.complain(fmt.Sprintf("%s: %v: %v", n.name, w.conversation, err))
			case place == 0:
				first = sum
			case sum != first:
				t.complain(fmt.Sprintf("%s: %v is not the same as on %s", n.name, w.conversation, t.run.cluster.nodes[0].name))
			}
		}
	}
}

// read reads a conversation of a replica and compares it with what its writer knows. The sum
// covers all that must be equal everywhere.
func (t *traffic) read(r *storage.Reader, w *writer) (sum uint64, err error) {
	c, _, err := r.Conversation(w.conversation)
	if err != nil {
		return 0, err
	}
	if c.Head != w.acked || c.Revision != w.acked || c.SentA != w.acked {
		return 0, fmt.Errorf("%w has %d messages, revision %d, %d by A; %d were acknowledged", errCore, c.Head, c.Revision, c.SentA, w.acked)
	}
	h := fnv.New64a()
	fmt.Fprint(h, c)
	var next uint64
	var want []byte
	err = r.Messages(w.conversation, 1, c.Head, func(m storage.Message) (bool, error) {
		next++
		want = t.run.texts.Append(want[:0], w.stream, next)
		if m.Sequence != next || m.Author != w.conversation.A || m.Previous != next-1 || !bytes.Equal(m.Content.Bytes, want) {
			return false, fmt.Errorf("%w: message %d is #%d after #%d: %q", errCore, next, m.Sequence, m.Previous, m.Content.Bytes)
		}
		return true, addNumbers(h, m.Revision, uint64(m.Time))
	})
	if err == nil && next != c.Head {
		err = fmt.Errorf("%w: %d of %d messages can be read", errCore, next, c.Head)
	}
	return h.Sum64(), err
}

func addNumbers(h hash.Hash, numbers ...uint64) error {
	var b [8]byte
	for _, n := range numbers {
		binary.LittleEndian.PutUint64(b[:], n)
		if _, err := h.Write(b[:]); err != nil {
			return err
		}
	}
	return nil
}
