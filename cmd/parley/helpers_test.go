package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary behave as parley: the tests run the real program, in
// processes of its own, with nothing built beside it.
const asProgram = "TEST_AS_PARLEY=1"

// bound is how long a process may take for what must happen.
const bound = 3 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv("TEST_AS_PARLEY") != "" {
		os.Exit(run(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// command is `parley args` with an environment that has no setting of its own.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, os.Args[0], args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PARLEY_") {
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(c.Env, asProgram)
	return c
}

// A result is what a process left.
type result struct {
	out, err string
	code     int
}

func finish(t *testing.T, c *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{out.String(), errs.String(), c.ProcessState.ExitCode()}
}

// parley runs a command to its end.
func parley(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	c := command(t, args...)
	c.Stdin = strings.NewReader(stdin)
	return finish(t, c)
}

// refused runs a command that must fail with a code and one sentence that says each of want.
func refused(t *testing.T, code int, want []string, stdin string, args ...string) {
	t.Helper()
	r := parley(t, stdin, args...)
	if r.code != code {
		t.Errorf("parley %s: code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.out, r.err)
	}
	sentence := strings.TrimSpace(r.err[strings.LastIndex("\n"+r.err, "\nparley: "):])
	if strings.Contains(sentence, "\n") || !strings.HasPrefix(sentence, "parley: ") || strings.Contains(r.err, "goroutine") {
		t.Errorf("parley %s: not one sentence: %s", strings.Join(args, " "), r.err)
	}
	for _, w := range want {
		if !strings.Contains(sentence, w) {
			t.Errorf("parley %s: %q does not say %q", strings.Join(args, " "), sentence, w)
		}
	}
}

// A server is a running `parley serve`.
type server struct {
	command        *exec.Cmd
	address, admin string
	dir            string
	log            *bytes.Buffer
}

var servingLine = regexp.MustCompile(`^parley serves ws://(\S+) \(admin http://(\S+), data in .*\)$`)

// serveOn starts a server on a directory and free ports, and ends it with the test.
func serveOn(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	c := command(t, append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2"}, args...)...)
	s := &server{command: c, dir: dir, log: new(bytes.Buffer)}
	c.Stderr = s.log
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	m := servingLine.FindStringSubmatch(strings.TrimSpace(line))
	if err != nil || m == nil {
		c.Process.Kill()
		c.Wait()
		t.Fatalf("the server says %q, %v\n%s", line, err, s.log)
	}
	s.address, s.admin = m[1], m[2]
	go io.Copy(io.Discard, lines) // ends with the process
	t.Cleanup(func() { s.kill() })
	return s
}

func (s *server) kill() {
	if s.command.ProcessState == nil {
		s.command.Process.Kill()
		s.command.Wait()
	}
}

// stop ends the server with a signal and gives its exit code.
func (s *server) stop(t *testing.T, signal syscall.Signal) int {
	t.Helper()
	if err := s.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	s.command.Wait() // the code tells
	return s.command.ProcessState.ExitCode()
}

// addUsers creates users on a directory, with or without a server on it.
func addUsers(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if r := parley(t, "correct horse\n", "user", "add", name, "--data", dir); r.code != 0 {
			t.Fatalf("user add %s: %+v", name, r)
		}
	}
}
