package demo

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// startTimeout bounds a start of the server, stopTimeout its end after SIGTERM.
const (
	startTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
)

// errNotStarted is wrapped when a server does not come up.
var errNotStarted = errors.New("the server did not start")

// serving finds the address in the line that the server prints when it serves.
var serving = regexp.MustCompile(`^parley serves ws://(\S+)`)

// A process is a running `parley serve`.
type process struct {
	command *exec.Cmd
	address string
	ended   chan struct{} // closed when the process has ended
}

// start runs a server on dir and waits until it serves. Its log goes to server.log beside dir.
func start(program, dir, listen string) (*process, error) {
	log, err := os.OpenFile(logPath(dir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := exec.Command(program, "serve", "--demo", "--data", dir, "--listen", listen, "--admin", "off")
	c.Stderr = log
	// Nothing that is configured for a real server may reach this one.
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PARLEY_") {
			c.Env = append(c.Env, v)
		}
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	p := &process{command: c, ended: make(chan struct{})}
	lines := make(chan string, 1)
	go func() {
		s := bufio.NewScanner(out)
		if s.Scan() {
			lines <- s.Text()
		}
		for s.Scan() { // what else it prints is for people
		}
		_ = c.Wait() // how it ended is what the caller asked for, or in the log
		close(p.ended)
	}()
	select {
	case line := <-lines:
		if m := serving.FindStringSubmatch(line); m != nil {
			p.address = m[1]
			return p, nil
		}
	case <-p.ended:
	case <-time.After(startTimeout):
	}
	p.kill()
	return nil, errNotStarted
}

// kill ends the process at once, with SIGKILL, and waits until it is gone.
func (p *process) kill() {
	_ = p.command.Process.Kill() // it may have ended by itself
	<-p.ended
}

// stop asks the process to end, and kills it if it does not.
func (p *process) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		p.kill()
	}
}

func logPath(dir string) string { return filepath.Join(filepath.Dir(dir), "server.log") }

// logTail is the end of the server's log, for an error.
func logTail(dir string) string {
	b, err := os.ReadFile(logPath(dir))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-1000):]))
}
