package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A pipedChat is a `parley chat` without a terminal.
type pipedChat struct {
	in   io.WriteCloser
	text chan string // what it has written so far, after each line
	wait func() int
}

func pipe(t *testing.T, args ...string) *pipedChat {
	t.Helper()
	c := command(t, append([]string{"chat"}, args...)...)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &pipedChat{in: in, text: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		text := ""
		for {
			n, err := out.Read(b)
			text += string(b[:n])
			p.text <- text
			if err != nil {
				return
			}
		}
	}()
	p.wait = func() int {
		<-done
		c.Wait() // the code tells
		return c.ProcessState.ExitCode()
	}
	t.Cleanup(func() {
		if c.ProcessState == nil {
			c.Process.Kill()
			p.wait()
		}
	})
	return p
}

func (p *pipedChat) shows(t *testing.T, want string) {
	t.Helper()
	text := ""
	for deadline := time.After(bound); !strings.Contains(text, want); {
		select {
		case text = <-p.text:
		case <-deadline:
			t.Fatalf("%q does not come, but\n%s", want, text)
		}
	}
	p.text <- text
}

func (p *pipedChat) write(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(p.in, text); err != nil {
		t.Fatal(err)
	}
}

func TestTwoProcessesChatByPipesAndOutliveTheServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serveOn(t, dir, "--demo")
	ada := pipe(t, "--as", "ada", "--with", "bob", "--data", dir, "--server", s.address, "--until", "read")
	ada.write(t, "hello bob\n")
	ada.shows(t, "#1 sent\n")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(parley(t, "", "token", "bob", "--data", dir).out), 0o600); err != nil {
		t.Fatal(err)
	}
	bob := pipe(t, "--token-file", token, "--with", "ada", "--server", "ws://"+s.address, "--until", "read")
	bob.shows(t, "#1 ada: hello bob\n")
	ada.shows(t, "#1 delivered\n#1 read\n")
	bob.write(t, "hello ada\n")
	ada.shows(t, "#2 bob: hello ada\n")
	bob.shows(t, "#2 sent\n#2 delivered\n#2 read\n")

	s.kill()
	ada.shows(t, "* offline")
	ada.write(t, "are you still there?\n")
	again := serveOn(t, dir, "--listen", s.address)
	bob.shows(t, "#3 ada: are you still there?\n")
	ada.shows(t, "#3 sent\n#3 delivered\n#3 read\n")
	for name, p := range map[string]*pipedChat{"ada": ada, "bob": bob} {
		p.in.Close()
		if code := p.wait(); code != 0 {
			t.Errorf("%s ends with %d", name, code)
		}
	}
	if code := again.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the server ends with %d\n%s", code, again.log)
	}
}

func TestChatIsRefusedForCause(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serveOn(t, dir, "--demo")
	at := []string{"--data", dir, "--server", s.address}
	refused(t, exitRefused, []string{"no user of this name"}, "", append([]string{"chat", "--as", "eve", "--with", "bob"}, at...)...)
	refused(t, exitRefused, []string{"no such user", `"eve"`}, "", append([]string{"chat", "--as", "ada", "--with", "eve"}, at...)...)
	refused(t, exitUsage, []string{"nobody chats with oneself"}, "", append([]string{"chat", "--as", "ada", "--with", "ada"}, at...)...)
	refused(t, exitRefused, []string{"the server refused", "UNAUTHENTICATED"}, "", "chat", "--token", "forged", "--with", "bob", "--server", s.address)
	refused(t, exitUsage, []string{"address"}, "", "chat", "--token", "x", "--with", "bob", "--server", "http://"+s.address)
	refused(t, exitFailed, []string{"token file cannot be read"}, "", "chat", "--token-file", filepath.Join(dir, "none"), "--with", "bob")
	refused(t, exitUnreachable, []string{"no Parley server"}, "", "chat", "--token", "x", "--with", "bob", "--server", s.admin)
}

func TestDemoLosesNothing(t *testing.T) {
	r := parley(t, "", "demo")
	for _, want := range []string{"#1 ✓  sent", "#1 ✓✓ delivered to bob", "#1 ✓✓ read by bob", "sees that bob is writing", "killed with SIGKILL",
		"is offline", "All 5 messages are there, in order, none twice, each with its receipts."} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not said", want)
		}
	}
	if r.code != 0 {
		t.Errorf("%+v", r)
	}
}
