//go:build linux

package hostile

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"parley/wire"
	"parley/wire/wiretest"
)

func TestPortsInUseAreNamedAndLeftToTheirOwner(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.during(t, func() {
		for _, port := range []string{s.address, s.admin, l.Addr().String()} {
			for _, flag := range []string{"--listen", "--admin"} {
				other := launch(t, t.TempDir(), nil, flag, port)
				other.refused(t, exitInUse, "port is in use", port)
			}
		}
	})
}

func TestAConnectionLimitRefusesAtOnceAndServesAgain(t *testing.T) {
	t.Parallel()
	const limit = 10
	s := serve(t, t.TempDir(), "--connections-max", "10")
	w := s.witness(t)
	w.during(t, func() {
		var held []*client
		for range limit - 2 {
			held = append(held, s.dial(t))
		}
		for range 50 {
			conn := s.connect(t)
			io.WriteString(conn, wiretest.Request)
			answer, err := io.ReadAll(conn)
			if err != nil && !gone(err) || !bytes.HasPrefix(answer, []byte("HTTP/1.1 503 ")) || !bytes.Contains(answer, []byte("Retry-After: ")) {
				t.Fatalf("%q, %v", answer, err)
			}
		}
		// One leaves without a word, another is closed well: their places are free again.
		held[0].Close()
		held[1].write(wiretest.Message(wiretest.Close, []byte{0x03, 0xe8}))
		held[1].wantClose(t, 1000)
		for range 2 {
			eventually(t, "a place is free", func() bool {
				conn := s.connect(t)
				c := &client{Client: wiretest.New(conn)}
				if err := c.Upgrade(); err != nil {
					conn.Close()
					return false
				}
				return true
			})
		}
	})
}

func TestUnknownSettingsAreNamed(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	file := filepath.Join(t.TempDir(), "parley.yaml")
	w.during(t, func() {
		for _, test := range []struct {
			name, text string
			flags      []string
			want       []string
		}{
			{"key", "log_level: warn\nlissten: 127.0.0.1:0\n", nil, []string{file + ":2", `"lissten"`, `"listen"`}},
			{"key that is like none", "zzz: 1\n", nil, []string{file + ":1", `"zzz"`}},
			{"key twice", "loops: 1\nloops: 2\n", nil, []string{file, "loops"}},
			{"value", "flush_interval: soon\n", nil, []string{file + ":1", "flush_interval"}},
			{"value out of range", "connections_max: -1\n", nil, []string{file + ":1", "connections_max"}},
			{"no YAML", "\tloops: [1\n", nil, []string{file}},
			{"a list", "- loops\n", nil, []string{file}},
			{"noise", "\x00\xff\x00\xff", nil, []string{file}},
			{"flag", "", []string{"--lop", "1"}, []string{"--lop"}},
			{"flag without a value", "", []string{"--loops"}, []string{"--loops"}},
			{"argument", "", []string{"now"}, []string{`"now"`}},
			{"public admin port", "", []string{"--admin", "0.0.0.0:0"}, []string{"--admin", "loopback"}},
			{"number of 2^64", "", []string{"--shards", "18446744073709551616"}, []string{"--shards"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
					t.Fatal(err)
				}
				dir := filepath.Join(t.TempDir(), "data")
				launch(t, dir, nil, append([]string{"--config", file}, test.flags...)...).refused(t, exitUsage, test.want...)
				if _, err := os.Stat(dir); err == nil {
					t.Error("a data directory was made")
				}
			})
		}
	})
}

func TestUnknownAndWrongVariablesAreNamed(t *testing.T) {
	t.Parallel()
	launch(t, t.TempDir(), []string{"PARLEY_SHARDS=many"}, "--loops", "1").served(t) // a flag goes before: --shards is given
	launch(t, t.TempDir(), []string{"PARLEY_LOOPS=many"}).refused(t, exitUsage, "PARLEY_LOOPS")
	// A variable may belong to something else, so it is only warned of.
	s := launch(t, t.TempDir(), []string{"PARLEY_LOPS=2"})
	if s.address == "" || !strings.Contains(s.text(), "PARLEY_LOPS is not a setting") {
		t.Errorf("no warning, or no start: %s", s.text())
	}
	s.witness(t).served(t)
}

// served wants a server that did start.
func (s *server) served(t *testing.T) {
	t.Helper()
	if s.address == "" {
		t.Fatalf("it did not start: %s", s.text())
	}
}

// The socket of the operator is as careful as the port of the clients.
func TestTheOperatorsDoorsRefuseWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	w.during(t, func() {
		for _, test := range []struct{ network, address, request string }{
			{"unix", filepath.Join(s.dir, "admin.sock"), "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{{{{{"},
			{"unix", filepath.Join(s.dir, "admin.sock"), "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n\"" + strings.Repeat("x", 1<<20)},
			{"unix", filepath.Join(s.dir, "admin.sock"), "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 36\r\n\r\n" + `{"name":"wanda","device":"-1","x":1}`},
			{"unix", filepath.Join(s.dir, "admin.sock"), "GET /v1/users HTTP/1.1\r\nHost: x\r\n\r\n"},
			{"tcp", s.admin, "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"},
			{"tcp", s.admin, "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n"},
			{"tcp", s.admin, "\x00\x01\x02\r\n\r\n"},
		} {
			conn, err := net.DialTimeout(test.network, test.address, patience)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(patience))
			go io.WriteString(conn, test.request)
			line := make([]byte, 12)
			if _, err := io.ReadFull(conn, line); err == nil && !strings.HasPrefix(string(line), "HTTP/1.1 4") || err != nil && !gone(err) {
				t.Errorf("%.60q: %q, %v", test.request, line, err)
			}
			conn.Close()
		}
		s.token(t, "wanda", 9, time.Hour) // the socket still serves
	})
}

// A server that stops says so to its clients, with the spread that was set.
func TestTheDrainSpreadIsWhatWasSet(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]uint64{"0s": 0, "7s": 7000} {
		s := serve(t, t.TempDir(), "--drain-spread", setting)
		s.user(t, "wanda")
		c := s.live(t, "wanda")
		s.command.Process.Signal(syscall.SIGTERM)
		g, err := wire.ParseGoAway(c.want(t, wire.TypeGoAway))
		if err != nil || g.SpreadMS != want || g.Code != wire.CodeGoingAway {
			t.Errorf("%s: %+v, %v", setting, g, err)
		}
		c.Close()
		s.stop(t)
	}
}
