//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/engine/admin"
)

// A cluster is some nodes with the places for some more.
type cluster struct {
	t       testing.TB
	dir     string
	network *network
	nodes   []*node
	began   time.Time

	mu    sync.Mutex
	trace *os.File
}

// built is where the programs are. They are made when they are needed.
var built struct {
	sync.Mutex
	dir string
}

// versions are the programs' versions: a rolling upgrade goes from one to the other.
var versions = []string{"chaos-1", "chaos-2"}

// build gives the program of a version, once a run.
func build(version string) (program string, err error) {
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		if built.dir, err = os.MkdirTemp("", "parley-chaos-"); err != nil {
			return "", err
		}
	}
	program = filepath.Join(built.dir, version)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	args := []string{"build", "-o", program, "-ldflags", "-X main.program=" + version}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "parley/cmd/parley")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
}

// serveFlags make small tables and short logs: flushes, compactions and snapshots happen
// within a run.
var serveFlags = []string{"--shards", "4", "--drain-spread", "1s", "--disk-reserve-bytes", "1MiB", "--flush-interval", "2s",
	"--buffer-bytes-max", "1MiB"}

// newCluster makes places and certificates for nodes; none runs yet.
func newCluster(t testing.TB, names ...string) *cluster {
	t.Helper()
	program, err := build(versions[0])
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "parley-chaos-data-")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: dir, began: time.Now()}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("data and logs are kept in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c.network = newNetwork(t, names...)
	if c.trace, err = os.Create(filepath.Join(dir, "trace")); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		n := &node{name: name, place: c.network.places[i], dir: filepath.Join(dir, name), certs: filepath.Join(dir, "certs", name),
			log: filepath.Join(dir, name+".log"), program: program, flags: serveFlags}
		if code, out := parley(t, program, "node", "cert", "--ca", filepath.Join(dir, "authority"), "--name", name, "--out", n.certs,
			"--host", n.place.ip); code != 0 {
			t.Fatalf("node cert: %s", out)
		}
		c.nodes = append(c.nodes, n)
	}
	t.Cleanup(c.close)
	return c
}

// close ends all processes, and looks at what they wrote.
func (c *cluster) close() {
	for _, n := range c.nodes {
		n.kill()
		for _, text := range n.bad() {
			c.t.Error(text)
		}
	}
	c.trace.Close()
}

// log notes what happens.
func (c *cluster) log(format string, args ...any) {
	line := fmt.Sprintf("%8.3fs ", time.Since(c.began).Seconds()) + fmt.Sprintf(format, args...)
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintln(c.trace, line)
	if testing.Verbose() {
		fmt.Println(line)
	}
}

// operator asks a node as an operator does.
func (n *node) operator() *admin.Client {
	return admin.NewClient(filepath.Join(n.dir, "admin.sock"))
}

// askTimeout bounds one question to a node, which may have been stopped meanwhile.
const askTimeout = 5 * time.Second

// errNobody reports that no node answers.
var errNobody = errors.New("chaos: no node answers")

// ask asks the nodes in turn until one answers.
func (c *cluster) ask(question func(ctx context.Context, n *node, o *admin.Client) error) error {
	err := errNobody
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(poll) {
		for _, n := range c.nodes {
			if !n.serving() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
			err = question(ctx, n, n.operator())
			cancel()
			if err == nil {
				return nil
			}
		}
	}
	return err
}

// command runs a command of an operator at any node but one, until it is done.
func (c *cluster) command(but *node, args ...string) (out string, err error) {
	err = errNobody
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * poll) {
		for _, n := range c.nodes {
			if n == but || !n.serving() {
				continue
			}
			var code int
			if code, out = parley(c.t, n.program, append(args, "--data", n.dir)...); code == 0 {
				return out, nil
			}
			err = fmt.Errorf("chaos: parley %s at %s: code %d: %s", strings.Join(args, " "), n.name, code, strings.TrimSpace(out))
		}
	}
	return "", err
}

// settled waits until every shard is where it should be, as a script would.
func (c *cluster) settled() error {
	_, err := c.command(nil, "shard", "list", "--settled", "60s")
	return err
}

// invite gives the flags of the first start of a node.
func (c *cluster) invite(but *node) ([]string, error) {
	token, err := c.command(but, "node", "add", "--token")
	if err != nil {
		return nil, err
	}
	var members []string
	for _, n := range c.nodes {
		if n != but && n.serving() {
			members = append(members, n.place.links)
		}
	}
	return []string{"--join", strings.Join(members, ","), "--join-token", strings.TrimSpace(token)}, nil
}

// join starts a node with an empty folder as a member, and waits until it has its share.
func (c *cluster) join(n *node) error {
	flags, err := c.invite(n)
	if err != nil {
		return err
	}
	if err := n.start(flags...); err != nil {
		return err
	}
	n.member = true
	if err := n.awaitServing(); err != nil {
		return err
	}
	return c.settled()
}

// form makes a cluster of the first nodes.
func (c *cluster) form(count int) error {
	for i, n := range c.nodes[:count] {
		var flags []string
		if i > 0 {
			var err error
			if flags, err = c.invite(n); err != nil {
				return err
			}
		}
		n.member = true
		if err := n.start(flags...); err != nil {
			return err
		}
		if err := n.awaitServing(); err != nil {
			return err
		}
	}
	return c.settled()
}

// members are the nodes of the cluster, whether they run at the moment or not.
func (c *cluster) members() (list []*node) {
	for _, n := range c.nodes {
		if n.member {
			list = append(list, n)
		}
	}
	return list
}

// leader is the node that leads most shards, as any node sees it; nil if nobody answers.
func (c *cluster) leader() (best *node) {
	led := make(map[string]int)
	err := c.ask(func(ctx context.Context, _ *node, o *admin.Client) error {
		shards, err := o.Shards(ctx)
		for _, s := range shards {
			led[s.Leader]++
		}
		return err
	})
	if err != nil {
		return nil
	}
	for _, n := range c.nodes {
		if led[n.name] > 0 && (best == nil || led[n.name] > led[best.name]) {
			best = n
		}
	}
	return best
}
