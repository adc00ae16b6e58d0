package sim

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func testDisk() *Disk { return NewDisk(rand.New(rand.NewPCG(1, 2))) }

// put writes a file, syncs it if asked to, and syncs its folder.
func put(t *testing.T, d *Disk, name, text string, sync bool) {
	t.Helper()
	f, err := d.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte(text))
	if sync {
		err = errors.Join(err, f.Sync())
	}
	dir, e := d.OpenDir("/")
	if err = errors.Join(err, f.Close(), e, dir.Sync(), dir.Close()); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, d *Disk, name string) string {
	t.Helper()
	f, err := d.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestACrashKeepsWhatWasSynced(t *testing.T) {
	d := testDisk()
	put(t, d, "safe", "synced", true)
	put(t, d, "unsafe", "not synced", false)
	if c := d.Crash(0); get(t, c, "safe") != "synced" || get(t, c, "unsafe") != "" {
		t.Fatalf("left: %q, %q", get(t, c, "safe"), get(t, c, "unsafe"))
	}
	if c := d.Crash(100); get(t, c, "safe") != "synced" || get(t, c, "unsafe") != "not synced" {
		t.Fatal("a crash that keeps everything does not")
	}
}

func TestAFailedSyncKeepsNothingOfTheFileFromThenOn(t *testing.T) {
	d := testDisk()
	f, err := d.Create("log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d.Fail(OperationSync, 1)
	f.Write([]byte("one "))
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("two "))
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	f.Write([]byte("three"))
	if err := f.Sync(); err != nil { // the kernel says all is well
		t.Fatal(err)
	}
	dir, _ := d.OpenDir("/")
	dir.Sync()
	dir.Close()
	if left := get(t, d.Crash(0), "log"); left != "one " {
		t.Fatalf("left: %q", left)
	}
}

func TestAFullDiskRefuses(t *testing.T) {
	d := testDisk()
	d.SetFree(5)
	f, err := d.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("12345")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("6")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write: %v", err)
	}
	if u, err := d.GetDiskUsage("/"); err != nil || u.AvailBytes != 0 {
		t.Fatalf("%+v, %v", u, err)
	}
	if _, err := d.Crash(100).FS.Stat("f"); err != nil {
		t.Fatal(err)
	}
	d.SetFree(-1)
	if _, err := f.Write([]byte("6")); err != nil {
		t.Fatal(err)
	}
}

func TestAFlippedBitCanBeTurnedBack(t *testing.T) {
	d := testDisk()
	if err := d.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, d, "data/f", "text", true)
	flip, err := d.DrawFlip("data", rand.New(rand.NewPCG(3, 4)))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Flip(flip); err != nil {
		t.Fatal(err)
	}
	if get(t, d, "data/f") == "text" {
		t.Fatal("nothing was flipped")
	}
	if err := d.Flip(flip); err != nil || get(t, d, "data/f") != "text" {
		t.Fatalf("turned back: %q, %v", get(t, d, "data/f"), err)
	}
	if err := d.Flip(Flip{Name: "data/gone"}); err != nil {
		t.Fatal(err)
	}
}

func TestASlowDiskTakesVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testDisk()
		d.SetSlow(time.Second)
		begin := time.Now()
		put(t, d, "000001.log", "x", true)
		if !time.Now().After(begin) {
			t.Fatal("it was quick")
		}
	})
}
