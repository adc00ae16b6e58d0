package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Three nodes are started with one command, and again on what they left; one that is killed is
// told of; Ctrl-C stops all.
func TestClusterRunsThreeNodes(t *testing.T) {
	dir, port := filepath.Join(t.TempDir(), "cluster"), freePorts(t)
	for run := range 2 {
		c := command(t, "cluster", "--data", dir, "--port", strconv.Itoa(port))
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		text := readTo(t, lines, "Ctrl-C stops all nodes")
		for _, want := range []string{"chat --as ada --with bob --data " + filepath.Join(dir, "a"), "chat --as bob --with ada --data " + filepath.Join(dir, "b")} {
			if !strings.Contains(text, want) {
				t.Errorf("run %d: %q is not in\n%s", run+1, want, text)
			}
		}
		list := parley(t, "", "shard", "list", "--data", filepath.Join(dir, "c"))
		if list.code != 0 || strings.Count(list.out, ", ") != 2*8 {
			t.Errorf("run %d: %+v", run+1, list)
		}
		victim := regexp.MustCompile(`kill -9 (\d+) +# node c`).FindStringSubmatch(text)
		if victim == nil {
			t.Fatalf("run %d: no process of node c in\n%s", run+1, text)
		}
		pid, err := strconv.Atoi(victim[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		readTo(t, lines, "node c ended")
		if err := c.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(lines); err != nil || !strings.Contains(string(rest), "Stopping") {
			t.Errorf("run %d: %s, %v", run+1, rest, err)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("run %d: %v", run+1, err)
		}
		if r := parley(t, "", "node", "list", "--data", filepath.Join(dir, "a")); r.code == 0 {
			t.Errorf("run %d: a node still serves: %s", run+1, r.out)
		}
	}
}

func TestClusterWantsRoomForItsPorts(t *testing.T) {
	refused(t, exitUsage, []string{"--port must be from 1 to"}, "", "cluster", "--port", "65535")
}

// readTo reads lines until one has a text.
func readTo(t *testing.T, lines *bufio.Reader, want string) string {
	t.Helper()
	var all strings.Builder
	for {
		line, err := lines.ReadString('\n')
		all.WriteString(line)
		if strings.Contains(line, want) {
			return all.String()
		}
		if err != nil {
			t.Fatalf("%q did not come: %v\n%s", want, err, all.String())
		}
	}
}

// freePorts finds a port for `parley cluster`: nobody listens on those of its nodes.
func freePorts(t *testing.T) int {
	t.Helper()
	free := func(port int) bool {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		return l.Close() == nil
	}
next:
	for port := 21000; port < localPortMax; port += localNodes * localPorts {
		for i := range localNodes {
			for which := range 3 {
				if !free(port + i*localPorts + which) {
					continue next
				}
			}
		}
		return port
	}
	t.Fatal("no ports are free")
	return 0
}
