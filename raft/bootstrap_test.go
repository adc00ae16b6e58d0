package raft

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A crash at the very first start, between the two writes of BootstrapCluster, leaves a
// term without an entry. The next start begins anew, or the group would have no voters for ever.
func TestAHalfBootstrappedGroupStartsAgain(t *testing.T) {
	fs := vfs.NewMem()
	n := openNode(t, fs, "a", nil)
	l := &groupLog{group: 1, store: n.store, committer: n.committer, fail: n.fail, record: func() Record { return Record{} }}
	if err := openLog(l, Record{}); err != nil {
		t.Fatal(err)
	}
	if err := l.SetUint64([]byte(stableTerm), 1); err != nil {
		t.Fatal(err)
	}
	closeNode(t, n)

	n = openNode(t, fs, "a", nil)
	defer closeNode(t, n)
	g := startGroupOf(t, n, 1, &testMachine{autoRecord: true}, &testSource{}, "a")
	eventually(t, "leading", g.Leading)
}
