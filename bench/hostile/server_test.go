//go:build linux

package hostile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"parley/engine/admin"
	"parley/engine/auth"
	"parley/wire"
)

// patience bounds every wait for what must happen; it is never what a test measures.
const patience = 60 * time.Second

// startPatience bounds the start of a server: of an empty folder or a small one, among many others.
const startPatience = 60 * time.Second

// The exit codes that `parley exit-codes` documents.
const (
	exitUsage = 2
	exitInUse = 3
	exitData  = 4
	exitFatal = 7
)

// built is where the program is, once it was built.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// program builds parley once a run, with the race detector if the tests have it.
func program(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "parley-hostile-"); built.err != nil {
			return
		}
		args := []string{"build", "-o", filepath.Join(built.dir, "parley")}
		if raceEnabled {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, "parley/cmd/parley")...).CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "parley")
}

// command is `parley args` with no setting in its environment but those of env.
func command(t testing.TB, env []string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(program(t), args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PARLEY_") {
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(c.Env, env...)
	// A server must not outlive the tests, however they end.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return c
}

// parley runs a command that ends by itself, and gives its exit code and all that it wrote.
func parley(t testing.TB, args ...string) (code int, out string) {
	t.Helper()
	c := command(t, nil, args...)
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	guard := time.AfterFunc(patience, func() { c.Process.Kill() })
	defer guard.Stop()
	var exit *exec.ExitError
	if err := c.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), b.String()
}

// A server is a server process.
type server struct {
	command        *exec.Cmd
	dir            string // its data
	address, admin string // empty: it did not get to serve
	log            string // the file of its standard error
	exited         chan struct{}
	stuck          bool // it did neither serve nor end, and was killed
	expected       bool // its end was looked at, and is as the test wants it
	devices        wire.ID
}

var servesLine = regexp.MustCompile(`^parley serves ws://(\S+) \(admin http://(\S+?), `)

// launch starts a server, and returns when it serves or has ended.
func launch(t testing.TB, dir string, env []string, flags ...string) *server {
	t.Helper()
	args := []string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-spread", "0s", "--log-level", "warn",
		"--disk-reserve-bytes", "1MiB", "--shards", strconv.Itoa(shards)}
	s := &server{dir: dir, log: filepath.Join(t.TempDir(), "log"), exited: make(chan struct{}), devices: 1000}
	s.command = command(t, env, append(args, flags...)...)
	log, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.command.Stderr = log
	out, err := s.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		defer close(s.exited)
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n') // empty if it ended before
		said <- line
		io.Copy(io.Discard, r)
		s.command.Wait()
	}()
	t.Cleanup(func() { s.end(t) })
	select {
	case line := <-said:
		if match := servesLine.FindStringSubmatch(line); match != nil {
			s.address, s.admin = match[1], match[2]
		} else {
			s.wait(t)
		}
	case <-time.After(startPatience):
		s.stuck = true
		s.kill(t)
	}
	return s
}

// serve starts a server that must serve.
func serve(t testing.TB, dir string, flags ...string) *server {
	t.Helper()
	s := launch(t, dir, nil, flags...)
	if s.address == "" {
		t.Fatalf("the server does not start: %s", s.text())
	}
	return s
}

// wait waits for the process to end by itself, and gives its exit code.
func (s *server) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.command.Process.Kill()
		t.Fatalf("the server does not end: %s", s.text())
	}
	s.expected = true
	return s.command.ProcessState.ExitCode()
}

// ended reports whether the process has ended.
func (s *server) ended() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// kill ends the server with SIGKILL.
func (s *server) kill(t testing.TB) {
	t.Helper()
	s.command.Process.Kill()
	s.wait(t)
}

// stop ends the server as an operator does; it must end well.
func (s *server) stop(t testing.TB) {
	t.Helper()
	s.command.Process.Signal(syscall.SIGTERM)
	if code := s.wait(t); code != 0 {
		t.Errorf("the server ends with code %d: %s", code, s.text())
	}
}

// end is the last thing that happens to every server: whatever was done to it, it must still be
// there and stop when asked, without a panic or a data race.
func (s *server) end(t testing.TB) {
	if !s.expected {
		s.stop(t)
	}
	for _, bad := range []string{"panic:", "fatal error:", "DATA RACE", "goroutine "} {
		if strings.Contains(s.text(), bad) {
			t.Errorf("the server's log has %q:\n%s", bad, s.text())
		}
	}
}

// text is what the server wrote to standard error, without the beginning if it is long.
func (s *server) text() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8<<10):])
}

// refused wants a server that did not start, for a reason that it says in one sentence.
func (s *server) refused(t testing.TB, code int, sentence ...string) {
	t.Helper()
	if s.address != "" {
		t.Fatalf("the server started, want code %d", code)
	}
	if s.stuck {
		t.Fatalf("the server neither serves nor ends, want code %d: %s", code, s.text())
	}
	text := s.text()
	last := text[strings.LastIndex("\n"+strings.TrimSpace(text), "\n"):]
	if got := s.wait(t); got != code || !strings.HasPrefix(last, "parley: ") {
		t.Fatalf("code %d, want %d: %s", got, code, text)
	}
	for _, want := range sentence {
		if !strings.Contains(last, want) {
			t.Errorf("it does not say %q: %s", want, last)
		}
	}
}

// status reads a number in kB of the process, such as VmRSS and VmHWM, and gives bytes.
func (s *server) status(t testing.TB, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n"+name+":")
	line, _, _ := strings.Cut(rest, " kB")
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// memory wants the most that the process ever had in memory while fn ran to be within a bound
// above what it has now.
func (s *server) memory(t testing.TB, growthMax int64, fn func()) {
	t.Helper()
	before := s.status(t, "VmRSS")
	fn()
	growth := s.status(t, "VmHWM") - before
	t.Logf("memory: %d MiB before, at most %d MiB more, %d MiB allowed", before>>20, growth>>20, growthMax>>20)
	if growth > growthMax && !raceEnabled {
		t.Errorf("memory grew by %d bytes, more than %d", growth, growthMax)
	}
}

// get asks the admin port.
func (s *server) get(t testing.TB, path string) (status int, body string) {
	t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + s.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// metric is a number of the admin port, all its labels added up.
func (s *server) metric(t testing.TB, name string) (sum float64) {
	t.Helper()
	_, body := s.get(t, "/metrics")
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndex(rest, " "):]), 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// user makes an account.
func (s *server) user(t testing.TB, name string) wire.ID {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id, err := admin.NewClient(filepath.Join(s.dir, "admin.sock")).CreateUser(ctx, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// token has the server sign a token.
func (s *server) token(t testing.TB, name string, device wire.ID, lifetime time.Duration) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	token, err := admin.NewClient(filepath.Join(s.dir, "admin.sock")).Token(ctx, name, device, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(token.Text)
}

// keys are the server's, for tests that need many tokens.
func (s *server) keys(t testing.TB) *auth.Keys {
	t.Helper()
	k, err := auth.LoadOrCreateKeys(filepath.Join(s.dir, "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to pass that %s", what)
		}
	}
}

// heavy leaves a test out of short runs, and where the machine does not allow so many files.
func heavy(t *testing.T, files uint64) {
	t.Helper()
	if testing.Short() {
		t.Skip("heavy: left out with -short")
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	if limit.Cur < files {
		t.Skipf("needs %d open files here and in the server, and the limit (ulimit -n) is %d", files, limit.Cur)
	}
}
