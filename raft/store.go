package raft

import (
	hraft "github.com/hashicorp/raft"
)

// An operation is what one group wants written: all of it to delete, or a range of its
// entries, then entries to add, then a ballot and a base to replace; each may be absent.
type operation struct {
	group      uint32
	drop       bool   // everything of the group
	deleteFrom uint64 // inclusive; 0 deletes nothing
	deleteTo   uint64 // inclusive
	logs       []*hraft.Log
	ballot     *ballot
	base       *base

	wake chan wakeup // capacity 1; made by newOperation
}

func newOperation(group uint32) *operation {
	return &operation{group: group, wake: make(chan wakeup, 1)}
}

// clear makes an operation ready to be filled again.
func (o *operation) clear() {
	o.drop, o.deleteFrom, o.deleteTo, o.ballot, o.base, o.logs = false, 0, 0, nil, nil, o.logs[:0]
}

// A store keeps the entries and ballots of all groups of a node. It is an interface so
// that a segment log can take Pebble's place.
type store interface {
	// write makes all operations durable in one step, all or nothing. One call at a time.
	write(operations []*operation) error
	// seal makes damage to the last write detectable. Not at the same time as write.
	seal() error
	// entry reads one entry; hraft.ErrLogNotFound if there is none.
	entry(group uint32, index uint64, l *hraft.Log) error
	// entries calls fn for each entry of from to to, both inclusive, ascending. size is
	// that of the stored value.
	entries(group uint32, from, to uint64, fn func(l *hraft.Log, size int) (more bool, err error)) error
	// ballot reads a group's ballot; the zero ballot if there is none.
	ballot(group uint32) (ballot, error)
	// base reads a group's base; the zero base if there is none.
	base(group uint32) (base, error)
	// groups lists the groups that have any record, ascending.
	groups() ([]uint32, error)
	// close seals and closes.
	close() error
}
