package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guidePatience bounds the run of the whole guide.
const guidePatience = 8 * time.Minute

// The operations guide is one script: every command of it works, in its order. Addresses
// are replaced by free ones.
func TestOperationsGuide(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of four processes: not in short mode")
	}
	guide, err := os.ReadFile("OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	script := strings.Builder{}
	script.WriteString("set -eu\ntrap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\n")
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(guide), -1) {
		script.WriteString(block[1])
	}
	ports := make(map[string]string)
	text := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllStringFunc(script.String(), func(address string) string {
		if ports[address] == "" {
			ports[address] = freeAddress(t)
		}
		return ports[address]
	})
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test binary behaves as parley, see helpers_test.go.
	if err := os.WriteFile(filepath.Join(dir, "parley"), []byte("#!/bin/sh\nTEST_AS_PARLEY=1 exec "+self+" \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), guidePatience)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-c", text)
	c.Dir = dir
	c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 10 * time.Second
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s\n%s", err, out, logTails(dir))
	}
}

// freeAddress picks a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// logTails are the ends of the nodes' logs.
func logTails(dir string) string {
	var all strings.Builder
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err == nil {
			fmt.Fprintf(&all, "%s: %s\n", filepath.Base(name), b[max(0, len(b)-2000):])
		}
	}
	return all.String()
}
