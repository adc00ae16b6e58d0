package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRecoverRefusesWhatNeedsNone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "alone")
	addUsers(t, dir, "ada")
	refused(t, exitRefused, []string{"nothing to recover", "parley serve"}, "", "recover", "--data", dir, "--yes")
	refused(t, exitData, []string{"no data directory"}, "", "recover", "--data", filepath.Join(dir, "none"))
	refused(t, exitUsage, []string{"now"}, "", "recover", "now")
	refused(t, exitInUse, []string{"in use", "stop the process"}, "", "recover", "--data", serveOn(t, filepath.Join(t.TempDir(), "served")).dir, "--yes")
	if err := os.WriteFile(filepath.Join(dir, "RECOVERING"), []byte("half a plan"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, exitRefused, []string{"recovery", "not finished"}, "", "serve", "--data", dir, "--listen", "127.0.0.1:0", "--admin", "off")
	refused(t, exitRefused, []string{"RECOVERING", "damaged"}, "", "recover", "--data", dir, "--yes")
}

// Two of three nodes are lost: the third says what it has, becomes a cluster, and serves
// what it had.
func TestANodeThatIsLeftIsRecovered(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of three processes: not in short mode")
	}
	link := freeAddress(t)
	a := serveOn(t, filepath.Join(t.TempDir(), "a"), "--node-name", "a", "--cluster-listen", link)
	addUsers(t, a.dir, "ada", "bob")
	invitation := parley(t, "", "node", "add", "--data", a.dir, "--token")
	if invitation.code != 0 {
		t.Fatalf("%+v", invitation)
	}
	all := []*server{a}
	for _, name := range []string{"b", "c"} {
		all = append(all, serveOn(t, filepath.Join(t.TempDir(), name), "--node-name", name, "--cluster-listen", freeAddress(t),
			"--join", link, "--join-token", strings.TrimSpace(invitation.out)))
	}
	waitForNodes(t, a.dir, 3)
	if r := parley(t, "", "shard", "list", "--data", a.dir, "--settled", "2m"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for _, s := range all {
		s.kill()
	}
	left := all[1].dir
	if err := os.Remove(filepath.Join(left, "admin.sock")); err != nil { // no file to compare
		t.Fatal(err)
	}
	before := snapshot(t, left)
	looked := parley(t, "", "recover", "--data", left)
	if looked.code != 0 || !strings.Contains(looked.out, "(lost, was at "+link+")") || !strings.Contains(looked.out, "1 of 3") ||
		!strings.Contains(looked.out, "Nothing was changed") {
		t.Errorf("looking: %+v", looked)
	}
	t.Log(looked.out)
	if snapshot(t, left) != before {
		t.Error("looking changed the directory")
	}
	refused(t, exitRefused, []string{"majority"}, "", "recover", "--data", left, "--survivor", a.dir, "--yes")
	if r := parley(t, "", "recover", "--data", left, "--yes"); r.code != 0 || !strings.Contains(r.out, "now node 4") {
		t.Fatalf("recovering: %+v", r)
	}
	refused(t, exitRefused, []string{"nothing to recover"}, "", "recover", "--data", left, "--yes")
	if r := parley(t, "", "fsck", left); r.code != 0 {
		t.Errorf("fsck: %+v", r)
	}
	again := serveOn(t, left, "--cluster-listen", freeAddress(t))
	waitForNodes(t, left, 1)
	if r := parley(t, "correct horse\n", "user", "add", "ada", "--data", left); r.code != exitRefused || !strings.Contains(r.err, "taken") {
		t.Errorf("ada is gone: %+v", r)
	}
	if code := again.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("code %d\n%s", code, again.log)
	}
}

// waitForNodes waits until a node lists so many.
func waitForNodes(t *testing.T, dir string, count int) {
	t.Helper()
	for {
		r := parley(t, "", "node", "list", "--data", dir)
		if r.code != 0 {
			t.Fatalf("%+v", r)
		}
		if strings.Count(strings.TrimSpace(r.out), "\n") == count {
			return
		}
	}
}
