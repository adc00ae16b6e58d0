package storage

import (
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What is read of a store that nobody has open is what its shards say of themselves.
func TestRecordsAreReadWithoutOpeningTheStore(t *testing.T) {
	fs := newCrashFS()
	s, shards, _ := openPair(t, fs, newUniverse(2), [2]int{20, 30}, 1)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[uint32]Record{1: shards[0].Record(), 2: shards[1].Record()}
	closeTest(t, s)
	files := func() []string {
		names, err := fs.List(testPath)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	before := files()
	got, err := ReadRecords(testPath, fs)
	if err != nil || !reflect.DeepEqual(got, want) || want[1].Index == 0 {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if after := files(); !slices.Equal(after, before) {
		t.Errorf("reading has changed the files: %v, before %v", after, before)
	}
	if _, err := ReadRecords("none", vfs.NewMem()); err == nil {
		t.Error("a store that is not there was read")
	}
}
