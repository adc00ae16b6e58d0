package link

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A pki is a directory for an authority and one for each node.
type pki struct {
	t   testing.TB
	dir string
}

func newPKI(t testing.TB) *pki { return &pki{t, t.TempDir()} }

func (p *pki) files(node string) TLSFiles {
	d := filepath.Join(p.dir, node)
	return TLSFiles{filepath.Join(d, AuthorityFile), filepath.Join(d, NodeFile), filepath.Join(d, NodeKeyFile)}
}

func (p *pki) authority(name string) *Authority {
	p.t.Helper()
	a, _, err := OpenAuthority(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// issue writes a node's files.
func (p *pki) issue(a *Authority, node string, lifetime time.Duration) TLSFiles {
	p.t.Helper()
	certificate, key, err := a.Issue(node, []string{"127.0.0.1", "host.example"}, lifetime)
	if err == nil {
		err = a.WriteNode(filepath.Join(p.dir, node), node, certificate, key)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return p.files(node)
}

func (p *pki) load(files TLSFiles) *tls.Config {
	p.t.Helper()
	c, err := LoadTLS(files, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func TestAuthorityFilesAreMadeOnceAndKeysAreSecret(t *testing.T) {
	p := newPKI(t)
	dir := filepath.Join(p.dir, "ca")
	first, created, err := OpenAuthority(dir)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	second, created, err := OpenAuthority(dir)
	if err != nil || created || !bytes.Equal(first.PEM(), second.PEM()) {
		t.Fatalf("opened again: created %v, %v", created, err)
	}
	f := p.issue(second, "a", NodeLifetime)
	for path, mode := range map[string]fs.FileMode{
		filepath.Join(dir, AuthorityKeyFile): 0o600, filepath.Join(dir, AuthorityFile): 0o644,
		f.Key: 0o600, f.Certificate: 0o644, f.Authority: 0o644,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil || pair.Leaf.VerifyHostname("127.0.0.1") != nil || pair.Leaf.VerifyHostname("host.example") != nil || pair.Leaf.VerifyHostname("a") != nil {
		t.Errorf("names: %v, %v", pair.Leaf.DNSNames, err)
	}
	// Half an authority must not be completed by another half.
	if err := os.Remove(filepath.Join(dir, AuthorityKeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenAuthority(dir); !errors.Is(err, ErrAuthority) {
		t.Errorf("without its key: %v", err)
	}
}

func TestNodeFilesOfAnotherNodeAreNotReplaced(t *testing.T) {
	p := newPKI(t)
	a := p.authority("ca")
	f := p.issue(a, "a", NodeLifetime)
	p.issue(a, "a", NodeLifetime) // renewed
	before, err := os.ReadFile(f.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.Issue("b", nil, NodeLifetime)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.WriteNode(filepath.Dir(f.Certificate), "b", certificate, key); !errors.Is(err, ErrCertificate) {
		t.Errorf("b over a: %v", err)
	}
	if after, err := os.ReadFile(f.Certificate); err != nil || !bytes.Equal(before, after) {
		t.Errorf("replaced: %v", err)
	}
	for _, name := range []string{"", "a b", "ä", strings.Repeat("x", 65), "a/b"} {
		if _, _, err := a.Issue(name, nil, NodeLifetime); !errors.Is(err, ErrCertificate) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestCertificatesThatDoNotFitAreRefusedAtTheStart(t *testing.T) {
	p := newPKI(t)
	a, other := p.authority("ca"), p.authority("other")
	good := p.issue(a, "a", NodeLifetime)
	foreign := p.issue(other, "b", NodeLifetime)
	expired := p.issue(a, "c", -time.Minute)
	for what, files := range map[string]TLSFiles{
		"another authority's": {good.Authority, foreign.Certificate, foreign.Key},
		"expired":             expired,
		"another key":         {good.Authority, good.Certificate, foreign.Key},
		"no authority":        {good.Key, good.Certificate, good.Key},
	} {
		if _, err := LoadTLS(files, nil); !errors.Is(err, ErrCertificate) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := LoadTLS(TLSFiles{good.Authority, filepath.Join(p.dir, "none"), good.Key}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// logLines counts log lines that contain a text.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func TestOnlyPeersWithACertificateOfTheAuthorityAreLinked(t *testing.T) {
	p := newPKI(t)
	a, other := p.authority("ca"), p.authority("other")
	good, second := p.load(p.issue(a, "a", NodeLifetime)), p.load(p.issue(a, "b", NodeLifetime))
	foreign := p.load(p.issue(other, "c", NodeLifetime))
	late := p.issue(a, "d", -time.Minute)
	expired, err := tls.LoadX509KeyPair(late.Certificate, late.Key)
	if err != nil {
		t.Fatal(err)
	}
	stale := second.Clone()
	stale.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &expired, nil }
	none := second.Clone()
	none.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	for what, c := range map[string]struct {
		config *tls.Config
		log    string // of the side that refuses
	}{
		"good":    {second, ""},
		"foreign": {foreign, "unknown authority"},
		"expired": {stale, "expired"},
		"none":    {none, "certificate"},
		"plain":   {nil, "first record does not look like a TLS handshake"},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, true)
			var log logLines
			o := w.options(1)
			o.TLS, o.Logger = good, log.logger()
			w.open(o)
			o = w.options(2)
			o.TLS = c.config
			if what == "foreign" { // it would refuse first
				o.TLS = c.config.Clone()
				o.TLS.VerifyConnection = nil
			}
			two := w.open(o)
			two.Connect([]uint32{1})
			if c.log == "" {
				w.up(two, 1)
				return
			}
			eventually(t, "a refusal", func() bool { return log.count(c.log) > 0 })
			if two.Up(1) {
				t.Error("linked")
			}
		})
	}
}

func TestHubsLinkOverTLSUnderLoad(t *testing.T) {
	p := newPKI(t)
	a := p.authority("ca")
	w := newWorld(t, true)
	w.tls = func(node uint32) *tls.Config { return p.load(p.issue(a, string(rune('a'+node)), NodeLifetime)) }
	hubs := w.mesh(2)
	payload := bytes.Repeat([]byte("0123456789"), 20_000)
	hubs[1].HandleCall(1, echo)
	before := hubs[0].Stats().Writes
	if err := hubs[0].Send(2, 1, payload); err != nil {
		t.Error(err)
	}
	if _, err := hubs[0].Call(t.Context(), 2, 1, nil); err != nil {
		t.Error(err)
	}
	if n := hubs[0].Stats().Writes - before; n > 6 { // pings included; it is 13 records
		t.Errorf("%d writes for %d bytes", n, len(payload))
	}
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if b, err := hubs[0].Call(t.Context(), 2, 1, payload); err != nil || !bytes.Equal(b, payload) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
	calls.Wait()
}

func TestRenewedCertificatesAndAuthoritiesAreUsedWithoutARestart(t *testing.T) {
	p := newPKI(t)
	a, next := p.authority("ca"), p.authority("next")
	files := p.issue(a, "a", NodeLifetime)
	config := p.load(files)
	handshake := func(peer *tls.Config) (server, client error) {
		t.Helper()
		x, y := net.Pipe()
		defer x.Close()
		defer y.Close()
		done := make(chan error, 1)
		go func() {
			s := tls.Server(x, config)
			done <- s.Handshake()
			x.Close()
		}()
		c := tls.Client(y, peer)
		client = c.Handshake()
		if client == nil {
			_, err := c.Read(make([]byte, 1)) // 1.3: the server's verdict comes after
			if _, refused := errors.AsType[*net.OpError](err); refused {
				client = err
			}
		}
		y.Close()
		return <-done, client
	}
	peer := p.load(p.issue(next, "b", NodeLifetime))
	if s, c := handshake(peer); s == nil && c == nil {
		t.Fatal("a peer of another authority was accepted")
	}
	// The peer, which trusts the next authority alone, is accepted when both are trusted here and
	// the certificate here was signed by the next.
	both := append(bytes.Clone(a.PEM()), next.PEM()...)
	if err := os.WriteFile(files.Authority, both, 0o644); err != nil {
		t.Fatal(err)
	}
	certificate, key, err := next.Issue("a", nil, NodeLifetime)
	if err != nil {
		t.Fatal(err)
	}
	// Half of the change must not break what there is.
	if err := os.WriteFile(files.Key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	same := p.load(p.issue(a, "c", NodeLifetime))
	if s, c := handshake(same); s != nil || c != nil {
		t.Errorf("with half of the new files: %v, %v", s, c)
	}
	if err := os.WriteFile(files.Certificate, certificate, 0o644); err != nil {
		t.Fatal(err)
	}
	if s, c := handshake(peer); s != nil || c != nil {
		t.Errorf("with the new files: %v, %v", s, c)
	}
}
