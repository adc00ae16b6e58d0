package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"parley/cmd/parley/internal/vt"
)

// A terminal is a program on a pseudo-terminal of its own, with what it shows.
type terminal struct {
	command *exec.Cmd
	master  *os.File
	mu      sync.Mutex
	screen  *vt.Screen
	drained chan struct{}
}

// onTerminal runs a command as if a person had started it.
func onTerminal(t *testing.T, width, height int, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here:", err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: uint16(width)})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	c := command(t, args...)
	c.Env = append(c.Env, "TERM=xterm", "NO_COLOR=1")
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{command: c, master: master, screen: vt.New(width, height), drained: make(chan struct{})}
	go func() {
		defer close(term.drained)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			term.mu.Lock()
			term.screen.Write(b[:n]) // never fails
			term.mu.Unlock()
			if err != nil {
				return // EIO: the program has ended
			}
		}
	}()
	t.Cleanup(func() {
		if c.ProcessState == nil {
			c.Process.Kill()
			c.Wait() // killed
		}
		master.Close()
	})
	return term
}

func (x *terminal) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.screen.String()
}

func (x *terminal) shows(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(bound); !strings.Contains(x.String(), want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come; the screen is\n%s", want, x)
		}
	}
}

func (x *terminal) write(t *testing.T, keys string) {
	t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// hides waits until the terminal does not show what is written.
func (x *terminal) hides(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(bound); ; time.Sleep(time.Millisecond) {
		now, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if now.Lflag&unix.ECHO == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the terminal goes on to show what is written; the screen is\n%s", x)
		}
	}
}

// end waits until the program has ended and gives its exit code.
func (x *terminal) end(t *testing.T) int {
	t.Helper()
	x.command.Wait() // the code tells
	<-x.drained
	return x.command.ProcessState.ExitCode()
}

func TestPasswordsAreAskedForTwiceAndNotShown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	add := func(first, second string) (*terminal, int) {
		x := onTerminal(t, 80, 24, "user", "add", "ada", "--data", dir)
		x.shows(t, "Password for ada:")
		x.hides(t)
		x.write(t, first)
		if second != "" {
			x.shows(t, "Again:")
			x.hides(t)
			x.write(t, second)
		}
		return x, x.end(t)
	}
	for _, c := range []struct {
		first, second, want string
		code                int
	}{
		{"correct horse\r", "correct house\r", "two passwords are not the same", exitUsage},
		{"short\r", "", "8 to 256 bytes", exitRefused},
		{"\x03", "", "", exitInterrupted},
		{"correct horse\r", "correct horse\r", "", exitOK},
		{"correct horse\r", "correct horse\r", "name is taken", exitRefused},
	} {
		x, code := add(c.first, c.second)
		if code != c.code || !strings.Contains(x.String(), c.want) || strings.Contains(x.String(), "horse") {
			t.Errorf("%q, %q: code %d, want %d and %q\n%s", c.first, c.second, code, c.code, c.want, x)
		}
		if after, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS); err != nil || after.Lflag&unix.ECHO == 0 {
			t.Errorf("%q, %q: the terminal no longer shows what is written", c.first, c.second)
		}
	}
}

func TestTwoPeopleChatAtTheirTerminals(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serveOn(t, dir, "--demo")
	ada := onTerminal(t, 60, 12, "chat", "--as", "ada", "--with", "bob", "--data", dir, "--server", s.address)
	ada.shows(t, "ada and bob")
	ada.write(t, "hello bob\r")
	ada.shows(t, "✓  ada: hello bob")
	bob := onTerminal(t, 50, 10, "chat", "--as", "bob", "--with", "ada", "--data", dir, "--server", s.address)
	bob.shows(t, "   ada: hello bob")
	ada.shows(t, "✓R ada: hello bob") // NO_COLOR is set
	bob.write(t, "hi")
	ada.shows(t, "bob is writing …")
	ada.write(t, "in the mid")
	bob.write(t, " ada\x7f\x7f\x7fall\r")
	ada.shows(t, "bob: hi all\n\n> in the mid")
	ada.write(t, "dle\r")
	bob.shows(t, "ada: in the middle")

	// A smaller window: everything is painted again.
	if err := unix.IoctlSetWinsize(int(bob.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 8, Col: 40}); err != nil {
		t.Fatal(err)
	}
	bob.write(t, "/status\r")
	bob.shows(t, "bob, user ")

	ada.write(t, "\x03")
	bob.write(t, "/quit\r")
	for name, x := range map[string]*terminal{"ada": ada, "bob": bob} {
		if code := x.end(t); code != 0 {
			t.Errorf("%s: code %d\n%s", name, code, x)
		}
		if len(x.screen.Unknown) > 0 {
			t.Errorf("%s: %q", name, x.screen.Unknown)
		}
	}
}

func TestLeavingATerminalLeavesItAsItWas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serveOn(t, dir, "--demo")
	for _, leave := range []func(x *terminal){
		func(x *terminal) { x.write(t, "\x03") },
		func(x *terminal) { x.command.Process.Signal(syscall.SIGTERM) }, // end fails the test
		func(*terminal) { s.stop(t, syscall.SIGKILL) },
	} {
		x := onTerminal(t, 60, 12, "chat", "--as", "ada", "--with", "bob", "--data", dir, "--server", s.address)
		before, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		x.shows(t, "ada and bob")
		raw, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS)
		if err != nil || raw.Lflag&unix.ICANON != 0 {
			t.Errorf("not raw while it runs: %v", err)
		}
		leave(x)
		if s.command.ProcessState != nil { // then the chat stays, offline, until somebody leaves it
			x.shows(t, "offline")
			x.write(t, "\x04")
		}
		x.end(t)
		after, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS)
		if err != nil || after.Lflag&unix.ICANON == 0 || after.Lflag&unix.ECHO == 0 {
			t.Errorf("left raw: %v, %+v, before %+v", err, after, before)
		}
	}
}
