package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"parley/engine/admin"
	"parley/raft/link"
)

const (
	// localNodes is the smallest cluster that survives the loss of a node.
	localNodes = 3
	// localPorts is the distance between the ports of two nodes.
	localPorts = 10
	// localPortMax leaves room for the ports of all nodes.
	localPortMax = 65535 - localNodes*localPorts
	// localStart bounds the start of a node, localStop its end after SIGTERM, and localSettle the
	// wait until shards are where they belong.
	localStart  = 2 * time.Minute
	localStop   = 20 * time.Second
	localSettle = 2 * time.Minute
	// localAgain is how long a node that was killed stays away: long enough to look around
	// without it.
	localAgain = 10 * time.Second
	// localInvite outlives the start of the nodes.
	localInvite = time.Hour
)

func newCluster() *cobra.Command {
	c := &cobra.Command{
		Use:   "cluster",
		Short: "Run three nodes on this machine, to try what a cluster does",
		Long: "Runs a cluster of three nodes in processes of their own, with certificates for the links between them, and says how to\n" +
			"chat at each. A node that is killed is started again after " + localAgain.String() + ". Ctrl-C stops all; the next run on the same\n" +
			"directory has the same users and messages.\n\n" +
			"It is for trying. OPERATIONS.md beside the source of this command forms a real cluster.",
		Args: noArguments,
	}
	data := c.Flags().String("data", "./cluster", "the `DIR` of all nodes' data, certificates and logs")
	port := c.Flags().Int("port", 7070, "the first node takes clients at this `PORT`, has its admin port next to it, and then its links; the others ten higher each")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *port < 1 || *port > localPortMax {
			return usageError(fmt.Sprintf("--port must be from 1 to %d, not %d", localPortMax, *port))
		}
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program, to start it as a server: %w", err)
		}
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		l := &localCluster{dir: *data, program: program, out: c.OutOrStdout()}
		for i := range localNodes {
			l.nodes = append(l.nodes, &localNode{cluster: l, name: string(rune('a' + i)), port: *port + i*localPorts})
		}
		return l.run(ctx)
	}
	return c
}

// errLocalNode is wrapped by what keeps a node of a local cluster from serving.
var errLocalNode = errors.New("a node does not serve")

// A localCluster is the nodes that this process has started.
type localCluster struct {
	dir, program string
	nodes        []*localNode
	outMu        sync.Mutex
	out          io.Writer
}

func (l *localCluster) say(format string, args ...any) {
	l.outMu.Lock()
	defer l.outMu.Unlock()
	fmt.Fprintf(l.out, format+"\n", args...)
}

// run starts all nodes, and stops them when ctx ends.
func (l *localCluster) run(ctx context.Context) error {
	authority, _, err := link.OpenAuthority(filepath.Join(l.dir, "authority"))
	if err != nil {
		return err
	}
	for _, n := range l.nodes {
		certificate, key, err := authority.Issue(n.name, []string{"127.0.0.1"}, link.NodeLifetime)
		if err == nil {
			err = authority.WriteNode(n.certificates(), n.name, certificate, key)
		}
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	l.say("Starting %d nodes, with data and logs in %s …", len(l.nodes), l.dir)
	if err := l.startAll(ctx, &running); err != nil {
		return err
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	l.explain()
	<-ctx.Done()
	l.say("Stopping all nodes …")
	return nil
}

// startAll starts the nodes: those that belong to the cluster at once, for none serves without the
// others, and new ones with an invitation of the first.
func (l *localCluster) startAll(ctx context.Context, running *sync.WaitGroup) error {
	served := make(chan error, len(l.nodes))
	start := func(n *localNode) {
		running.Go(func() { n.keep(ctx, func(err error) { served <- err }) })
	}
	var joining []*localNode
	for i, n := range l.nodes {
		if i > 0 && !n.joined() {
			joining = append(joining, n)
		} else {
			start(n)
		}
	}
	wait := func(count int) error {
		for range count {
			select {
			case err := <-served:
				if err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
	if err := wait(len(l.nodes) - len(joining)); err != nil {
		return err
	}
	for _, n := range joining {
		invitation, err := l.nodes[0].operator().Invite(ctx, localInvite)
		if err != nil {
			return err
		}
		n.invitation = []string{"--join", invitation.Address, "--join-token", invitation.Token}
		start(n)
	}
	return wait(len(joining))
}

// prepare makes the users and waits until the shards are where they belong.
func (l *localCluster) prepare(ctx context.Context) error {
	o := l.nodes[0].operator()
	for _, name := range demoUsers {
		if _, err := o.CreateUser(ctx, name, nil); err != nil && !errors.Is(err, admin.ErrNameTaken) {
			return fmt.Errorf("make the user %s: %w", name, err)
		}
	}
	for end := time.Now().Add(localSettle); ; {
		shards, err := settledShards(ctx, o, time.Until(end))
		if err != nil {
			return err
		}
		copied := true
		for _, s := range shards {
			copied = copied && len(s.Replicas) == localNodes
		}
		if copied {
			return nil
		}
	}
}

// explain says what there is, and what to do with it.
func (l *localCluster) explain() {
	l.outMu.Lock()
	defer l.outMu.Unlock()
	w := tabwriter.NewWriter(l.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nNODE\tCLIENTS\tADMIN\tLOG\tPROCESS")
	for _, n := range l.nodes {
		fmt.Fprintf(w, "%s\tws://%s\thttp://%s\t%s\t%d\n", n.name, n.address(0), n.address(1), n.log(), n.pid())
	}
	_ = w.Flush() // what does not reach a terminal has nobody to tell
	program, last := shortPath(l.program), l.nodes[len(l.nodes)-1]
	fmt.Fprintf(l.out, "\nThe cluster serves. Open two more terminals and chat, each at another node:\n\n")
	for i, name := range demoUsers {
		n := l.nodes[i]
		fmt.Fprintf(l.out, "    %s chat --as %s --with %s --data %s --server ws://%s\n", program, name, demoUsers[1-i], n.data(), n.address(0))
	}
	fmt.Fprintf(l.out, "\nLook at it, also while a node is away (it comes back after %v):\n\n"+
		"    %s node list --data %s\n    %s shard list --data %s\n    kill -9 %d    # node %s\n\n"+
		"Ctrl-C stops all nodes. The next run has the same users and messages.\n\n",
		localAgain, program, l.nodes[0].data(), program, l.nodes[0].data(), last.pid(), last.name)
}

// A localNode is one node of a local cluster.
type localNode struct {
	cluster    *localCluster
	name       string
	port       int
	invitation []string // flags of a node that has not joined yet

	mu      sync.Mutex
	command *exec.Cmd
}

func (n *localNode) data() string            { return filepath.Join(n.cluster.dir, n.name) }
func (n *localNode) certificates() string    { return filepath.Join(n.cluster.dir, "certs", n.name) }
func (n *localNode) log() string             { return n.data() + ".log" }
func (n *localNode) operator() *admin.Client { return admin.NewClient(socketPath(n.data())) }
func (n *localNode) address(which int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port+which))
}

func (n *localNode) pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.command.Process.Pid
}

// joined tells whether the node's directory belongs to a cluster already.
func (n *localNode) joined() bool {
	b, err := os.ReadFile(filepath.Join(n.data(), "node.json"))
	var identity struct {
		Number uint32 `json:"node"`
	}
	return err == nil && json.Unmarshal(b, &identity) == nil && identity.Number != 0
}

// keep runs the node until ctx ends, and starts it again when it was killed. served hears once
// whether it serves.
func (n *localNode) keep(ctx context.Context, served func(error)) {
	var once sync.Once
	first := func(err error) { once.Do(func() { served(err) }) }
	for {
		ended, err := n.start()
		first(err)
		if err != nil {
			n.cluster.say("node %s: %v", n.name, err)
		} else {
			select {
			case <-ended:
				n.cluster.say("node %s ended (%v); it is started again in %v", n.name, n.command.ProcessState, localAgain)
			case <-ctx.Done():
				n.stop(ended)
				return
			}
		}
		select {
		case <-time.After(localAgain):
		case <-ctx.Done():
			return
		}
	}
}

// servesLine is what a server prints when it serves.
var servesLine = regexp.MustCompile(`^parley serves ws://`)

// start runs the process and waits until it serves. ended is closed at its end.
func (n *localNode) start() (ended chan struct{}, err error) {
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	certificates := n.certificates()
	args := append([]string{"serve", "--data", n.data(), "--node-name", n.name, "--listen", n.address(0), "--admin", n.address(1),
		"--cluster-listen", n.address(2), "--cluster-ca", filepath.Join(certificates, link.AuthorityFile),
		"--cluster-cert", filepath.Join(certificates, link.NodeFile), "--cluster-key", filepath.Join(certificates, link.NodeKeyFile),
		"--drain-spread", "1s"}, n.invitation...)
	c := exec.Command(n.cluster.program, args...)
	c.Stderr = log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this process, which stops the nodes
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PARLEY_") { // settings are for one server, and these are three
			c.Env = append(c.Env, v)
		}
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.command = c
	n.mu.Unlock()
	said, ended := make(chan string, 1), make(chan struct{})
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n') // empty if it ended before
		said <- line
		_, _ = io.Copy(io.Discard, r)
		_ = c.Wait() // its state is told
		close(ended)
	}()
	select {
	case line := <-said:
		if servesLine.MatchString(line) {
			return ended, nil
		}
	case <-time.After(localStart):
	}
	_ = c.Process.Kill() // it may have ended
	<-ended
	return nil, fmt.Errorf("%w: %s", errLocalNode, n.logTail())
}

// stop asks the process to end, and kills it if it does not.
func (n *localNode) stop(ended chan struct{}) {
	_ = n.command.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-ended:
	case <-time.After(localStop):
		_ = n.command.Process.Kill()
		<-ended
	}
}

// logTail is the last line of the node's log.
func (n *localNode) logTail() string {
	b, err := os.ReadFile(n.log())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
