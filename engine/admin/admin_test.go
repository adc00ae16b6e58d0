package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/engine/auth"
	"parley/wire"
)

// A fakeNode is the Health and the Operator of a test.
type fakeNode struct {
	notReady atomic.Value // of error
	users    map[string][]byte
	flushes  atomic.Int64
	err      error
}

func (n *fakeNode) Ready() error {
	err, _ := n.notReady.Load().(error)
	return err
}

func (n *fakeNode) CreateUser(_ context.Context, name string, password []byte) (wire.ID, error) {
	if n.err != nil {
		return 0, n.err
	}
	if err := errors.Join(auth.CheckName(name), auth.CheckPassword(password)); err != nil {
		return 0, err
	}
	if _, taken := n.users[name]; taken {
		return 0, ErrNameTaken
	}
	n.users[name] = bytes.Clone(password)
	return wire.ID(len(n.users)), nil
}

func (n *fakeNode) Token(_ context.Context, name string, device wire.ID, lifetime time.Duration) (Token, error) {
	if _, ok := n.users[name]; !ok {
		return Token{}, ErrUnknownUser
	}
	if lifetime < time.Second || lifetime > auth.TokenLifetimeMax {
		return Token{}, auth.ErrLifetime
	}
	if device == 0 {
		device = 99
	}
	return Token{Text: "token of " + name, User: 1, Device: device, Expires: wire.Time(lifetime.Milliseconds())}, nil
}

func (n *fakeNode) Flush(context.Context) error {
	n.flushes.Add(1)
	return n.err
}

func start(t *testing.T, dir string) (*Server, *fakeNode, *Client) {
	t.Helper()
	node := &fakeNode{users: map[string][]byte{}}
	socket := filepath.Join(dir, "admin.sock")
	s, err := Listen(Config{Address: "127.0.0.1:0", Socket: socket, Metrics: NewRegistry(prometheus.Labels{"version": "test"}), Health: node, Operator: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, node, NewClient(socket)
}

func get(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	r, err := http.Get("http://" + s.Address().String() + path)
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

func TestPortTellsHealthMetricsAndProfiles(t *testing.T) {
	s, node, _ := start(t, t.TempDir())
	for path, want := range map[string]string{
		"/livez":                         "alive",
		"/readyz":                        "ready",
		"/metrics":                       `parley_build_info{version="test"} 1`,
		"/debug/pprof/":                  "goroutine",
		"/debug/pprof/goroutine?debug=1": "goroutine profile",
		"/debug/pprof/cmdline":           "admin.test",
	} {
		if code, body := get(t, s, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	node.notReady.Store(errors.New("shard 3 has no leader"))
	if code, body := get(t, s, "/readyz"); code != http.StatusServiceUnavailable || body != "not ready: shard 3 has no leader\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := get(t, s, "/livez"); code != http.StatusOK {
		t.Errorf("not ready is not dead: %d", code)
	}
	for _, path := range []string{"/", "/v1/users", "/metricsx"} {
		if code, _ := get(t, s, path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestPortIsOnLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.com:0"} {
		if _, err := Listen(Config{Address: address}); !errors.Is(err, ErrNotLoopback) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"127.0.0.1:0", "127.8.9.1:1", "localhost:0", "[::1]:0"} {
		if err := CheckAddress(address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestPortInUseIsAnErrorAndLeavesNothingOpen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(Config{Address: l.Addr().String()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v", err)
	}
	// A socket that cannot be opened takes the port back.
	if _, err := Listen(Config{Address: "127.0.0.1:0", Socket: filepath.Join(t.TempDir(), "none", "admin.sock")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestSocketCreatesUsersAndSignsTokens(t *testing.T) {
	_, node, c := start(t, t.TempDir())
	ctx := t.Context()
	password := []byte("\x00\xff no text \n")
	id, err := c.CreateUser(ctx, "ada", password)
	if err != nil || id != 1 || !bytes.Equal(node.users["ada"], password) {
		t.Fatalf("%v, %v, %q", id, err, node.users["ada"])
	}
	token, err := c.Token(ctx, "ada", 0, time.Hour)
	if want := (Token{Text: "token of ada", User: 1, Device: 99, Expires: 3_600_000}); err != nil || token != want {
		t.Errorf("%+v, %v", token, err)
	}
	if token, err := c.Token(ctx, "ada", 7, time.Hour); err != nil || token.Device != 7 {
		t.Errorf("%+v, %v", token, err)
	}
}

func TestSocketFlushes(t *testing.T) {
	_, node, c := start(t, t.TempDir())
	if err := c.Flush(t.Context()); err != nil || node.flushes.Load() != 1 {
		t.Errorf("%v after %d flushes", err, node.flushes.Load())
	}
	node.err = ErrUnavailable
	if err := c.Flush(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestErrorsKeepTheirIdentityAcrossTheSocket(t *testing.T) {
	_, node, c := start(t, t.TempDir())
	ctx := t.Context()
	create := func(name, password string) error {
		_, err := c.CreateUser(ctx, name, []byte(password))
		return err
	}
	token := func(name string, device wire.ID, lifetime time.Duration) error {
		_, err := c.Token(ctx, name, device, lifetime)
		return err
	}
	if err := create("ada", "password"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ got, want error }{
		"name taken":        {create("ada", "password"), ErrNameTaken},
		"bad name":          {create("Ada", "password"), auth.ErrBadName},
		"bad password":      {create("bob", "short"), auth.ErrBadPassword},
		"unknown user":      {token("carol", 0, time.Hour), ErrUnknownUser},
		"lifetime 0":        {token("ada", 0, 0), auth.ErrLifetime},
		"lifetime negative": {token("ada", 0, -time.Hour), auth.ErrLifetime},
		"lifetime huge":     {token("ada", 0, 1<<63-1), auth.ErrLifetime},
		"bad device":        {token("ada", 1<<wire.IDBits, time.Hour), wire.ErrBadID},
		"request too large": {create(strings.Repeat("x", requestBytesMax), "password"), errBadRequest},
	} {
		var e *Error
		if !errors.Is(c.got, c.want) || !errors.As(c.got, &e) || e.Message == "" {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	node.err = fmt.Errorf("%w: the disk is full", ErrUnavailable)
	if err := create("bob", "password"); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("%v", err)
	}
	node.err = errors.New("broken")
	var e *Error
	if err := create("bob", "password"); !errors.As(err, &e) || e.Code != "internal" || e.Unwrap() != nil {
		t.Errorf("%v", err)
	}
}

func TestSocketRefusesWhatItDoesNotUnderstand(t *testing.T) {
	_, node, c := start(t, t.TempDir())
	for _, body := range []string{"", "{", "[]", `{"name":5}`, `{"name":"ada","pasword":"eA=="}`} {
		r, err := c.http.Post("http://parley/v1/users", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %s", body, r.Status)
		}
	}
	if len(node.users) != 0 {
		t.Errorf("users: %v", node.users)
	}
}

func TestSocketIsItsOwnersAndReplacesADeadOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "admin.sock")
	// A process that was killed leaves a socket behind that nobody listens on.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := NewClient(path).Token(t.Context(), "ada", 0, time.Hour); !errors.Is(err, ErrNoServer) {
		t.Errorf("a dead socket: %v", err)
	}
	s, _, c := start(t, dir)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := c.CreateUser(t.Context(), "ada", []byte("password")); err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := c.Token(t.Context(), "ada", 0, time.Hour); !errors.Is(err, ErrNoServer) {
		t.Errorf("no socket: %v", err)
	}
}

func TestSocketPathMayBeLongerThanAnAddress(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, _, c := start(t, dir)
	if _, err := c.CreateUser(t.Context(), "ada", []byte("password")); err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
