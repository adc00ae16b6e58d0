//go:build linux

package chaos

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience bounds every wait for what must happen; it is never what a test measures.
	patience = 3 * time.Minute
	// poll is how often a wait looks again.
	poll = 50 * time.Millisecond
	// restartDelay is how soon the service manager starts a server that ended by itself.
	restartDelay = 500 * time.Millisecond
)

// The exit codes that `parley exit-codes` documents.
const (
	exitUsage   = 2
	exitInUse   = 3
	exitData    = 4
	exitRefused = 5
)

// A node is a server on a machine: one place, one data folder, one process after the other.
type node struct {
	name    string
	place   *place
	dir     string // the data folder
	certs   string // folder of its certificate
	log     string // file of the standard error of all lives
	program string
	flags   []string
	member  bool       // of the cluster; only the goroutine of the test looks at it or sets it
	busy    sync.Mutex // whoever ends and starts it holds this

	mu      sync.Mutex
	process *process
	up      bool     // it should run
	joins   []string // flags of the next start
	endings []string // of processes that ended by themselves
	flipped bool     // its files were damaged: it may end because of that
	lives   int
}

// A process is one life of a server.
type process struct {
	command *exec.Cmd
	serves  chan struct{} // closed once it serves
	exited  chan struct{} // closed once it has ended
	asked   bool          // to end, by us; under node.mu
}

// environment has no setting of Parley's.
func environment() (list []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PARLEY_") {
			list = append(list, v)
		}
	}
	return list
}

// parley runs a command that ends by itself, and gives its exit code and all that it wrote.
func parley(t testing.TB, program string, args ...string) (code int, out string) {
	c := exec.Command(program, args...)
	c.Env = environment()
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Error(err)
		return -1, err.Error()
	}
	guard := time.AfterFunc(patience, func() { c.Process.Kill() })
	defer guard.Stop()
	_ = c.Wait() // the code tells
	return c.ProcessState.ExitCode(), b.String()
}

// args is the command line of a start.
func (n *node) args() []string {
	args := []string{n.program, "serve", "--data", n.dir, "--node-name", n.name, "--listen", n.place.clients, "--admin", n.place.admin,
		"--cluster-listen", n.place.links, "--client-address", "ws://" + n.place.clients}
	if n.certs != "" {
		args = append(args, "--cluster-ca", filepath.Join(n.certs, "ca.pem"), "--cluster-cert", filepath.Join(n.certs, "node.pem"),
			"--cluster-key", filepath.Join(n.certs, "node.key"))
	}
	return append(append(args, n.flags...), n.joins...)
}

// start runs the server, and has it run until kill or stop.
func (n *node) start(joins ...string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.joins, n.up = joins, true
	if n.process != nil {
		return nil
	}
	return n.launch()
}

// again runs the server as start did; one that had not got to join tries again.
func (n *node) again() error {
	n.mu.Lock()
	joins := n.joins
	n.mu.Unlock()
	return n.start(joins...)
}

// launch starts a process; the caller holds the lock.
func (n *node) launch() error {
	words := n.place.words(n.args()...)
	p := &process{command: exec.Command(words[0], words[1:]...), serves: make(chan struct{}), exited: make(chan struct{})}
	p.command.Env = environment()
	// A server must not outlive the tests, however they end.
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.command.Stderr = log
	out, err := p.command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.command.Start(); err != nil {
		return err
	}
	n.process = p
	n.lives++
	go n.watch(p, out)
	return nil
}

// watch waits for the end of a process, and starts the next one if nobody wanted the end.
func (n *node) watch(p *process, out io.Reader) {
	r := bufio.NewReader(out)
	if line, _ := r.ReadString('\n'); strings.HasPrefix(line, "parley serves ") {
		n.mu.Lock()
		n.joins = nil // it knows its cluster now
		n.mu.Unlock()
		close(p.serves)
	}
	_, _ = io.Copy(io.Discard, r)
	_ = p.command.Wait() // the code tells
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == p {
		n.process = nil
	}
	close(p.exited)
	if p.asked {
		return
	}
	n.endings = append(n.endings, fmt.Sprintf("code %d: %s", p.command.ProcessState.ExitCode(), n.lastWords()))
	time.AfterFunc(restartDelay, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.up && n.process == nil {
			if err := n.launch(); err != nil {
				n.endings = append(n.endings, err.Error())
			}
		}
	})
}

// signal sends a signal to the process, if there is one, and returns it. An end that it
// causes was asked for, and is not followed by a start.
func (n *node) signal(s syscall.Signal, ends bool) *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ends {
		n.up = false
	}
	p := n.process
	if p == nil {
		return nil
	}
	p.asked = p.asked || ends
	_ = p.command.Process.Signal(s) // it may have ended
	return p
}

// kill ends the server with SIGKILL, and returns when it has ended.
func (n *node) kill() {
	if p := n.signal(syscall.SIGKILL, true); p != nil {
		<-p.exited
	}
}

// errStop reports a server that does not end well when it is asked to.
var errStop = errors.New("chaos: stop")

// stop ends the server as an operator does.
func (n *node) stop() error {
	p := n.signal(syscall.SIGTERM, true)
	if p == nil {
		return nil
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		n.kill()
		return fmt.Errorf("%w: %s did not end within %v", errStop, n.name, patience)
	}
	select {
	case <-p.serves:
	default:
		return nil // it was asked so early that it did not even know signals
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%w: %s ended with code %d: %s", errStop, n.name, code, n.lastWords())
	}
	return nil
}

// pause and resume stop the process's time, but not that of the others.
func (n *node) pause()  { n.signal(syscall.SIGSTOP, false) }
func (n *node) resume() { n.signal(syscall.SIGCONT, false) }

// running gives the process, nil if there is none.
func (n *node) running() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// errServe reports a server that does not get to serve.
var errServe = errors.New("chaos: the server does not serve")

// awaitServing waits until the server serves, in this process or one that follows it.
func (n *node) awaitServing() error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		p := n.running()
		if p == nil {
			time.Sleep(poll)
			continue
		}
		select {
		case <-p.serves:
			return nil
		case <-p.exited:
			time.Sleep(poll)
		case <-time.After(poll):
		}
	}
	return fmt.Errorf("%w: %s: %s", errServe, n.name, n.lastWords())
}

// serving reports whether the server has got to serve and not ended.
func (n *node) serving() bool {
	p := n.running()
	if p == nil {
		return false
	}
	select {
	case <-p.serves:
		return true
	default:
		return false
	}
}

// lastWords is the last line of the log.
func (n *node) lastWords() string {
	b, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	text := strings.TrimSpace(string(b[max(0, len(b)-4<<10):]))
	return text[strings.LastIndex(text, "\n")+1:]
}

// bad finds what no log may have.
func (n *node) bad() (found []string) {
	b, err := os.ReadFile(n.log)
	if err != nil {
		return nil // it never ran
	}
	for _, word := range []string{"panic:", "fatal error:", "DATA RACE"} {
		if at := bytes.Index(b, []byte(word)); at >= 0 {
			found = append(found, fmt.Sprintf("the log of %s has %q: %s", n.name, word, b[at:min(len(b), at+2000)]))
		}
	}
	return found
}
