package link

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// expiryWarning is how long before its end a certificate is complained about.
const expiryWarning = 30 * 24 * time.Hour

// TLSFiles are where a node's certificates are. The authority's file may hold several, of which any
// may have signed a peer's: that is how one is replaced by another.
type TLSFiles struct {
	Authority   string // ca.pem
	Certificate string // node.pem
	Key         string // node.key
}

// LoadTLS makes what both sides of a link need: TLS 1.3, a certificate on each side, each signed by the
// authority. Names and addresses in certificates are not compared with anything. Files that
// changed are read again at the next handshake; until they make sense, the old ones serve.
func LoadTLS(files TLSFiles, logger *slog.Logger) (*tls.Config, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	l := &tlsLoader{files: files, logger: logger}
	if err := l.load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAnyClientCert,
		// What the library would verify is the host's name. VerifyConnection verifies the
		// chain, on both sides.
		InsecureSkipVerify:     true,
		VerifyConnection:       l.verify,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.current(), nil },
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return l.current(), nil },
		SessionTicketsDisabled: true, // a connection lasts for weeks
		// A link writes much at once or little: growing records would cost system calls.
		DynamicRecordSizingDisabled: true,
	}, nil
}

// A tlsLoader keeps what was read last.
type tlsLoader struct {
	files  TLSFiles
	logger *slog.Logger

	mu          sync.Mutex
	stamps      [3]fileStamp
	certificate *tls.Certificate
	roots       *x509.CertPool
}

type fileStamp struct {
	modified time.Time
	size     int64
}

// current returns the node's certificate, read again if its files changed.
func (l *tlsLoader) current() *tls.Certificate {
	l.refresh()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.certificate
}

func (l *tlsLoader) refresh() {
	stamps, err := l.stat()
	l.mu.Lock()
	changed := stamps != l.stamps
	l.mu.Unlock()
	if err == nil && changed {
		err = l.load()
		if err == nil {
			l.logger.Info("link: certificates were read again")
		}
	}
	if err != nil {
		l.logger.Warn("link: new certificates are not used", "error", err)
	}
}

func (l *tlsLoader) stat() (stamps [3]fileStamp, err error) {
	for i, path := range []string{l.files.Authority, l.files.Certificate, l.files.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, err
		}
		stamps[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

// load reads and checks all three files.
func (l *tlsLoader) load() error {
	stamps, err := l.stat() // before they are read: what changes meanwhile is read again
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(l.files.Authority)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return fmt.Errorf("%w: no certificate is in %s", ErrCertificate, l.files.Authority)
	}
	certificate, err := os.ReadFile(l.files.Certificate)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(l.files.Key)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(bytes.TrimSpace(certificate), key)
	if err != nil {
		return fmt.Errorf("%w: %s with %s: %w", ErrCertificate, l.files.Certificate, l.files.Key, err)
	}
	if err := verifyChain(roots, pair.Leaf, nil); err != nil {
		return fmt.Errorf("%s: %w", l.files.Certificate, err)
	}
	if left := time.Until(pair.Leaf.NotAfter); left < expiryWarning {
		l.logger.Warn("link: the node's certificate ends soon: renew it with `parley node cert`", "file", l.files.Certificate,
			"days", int(left.Hours()/24))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stamps, l.certificate, l.roots = stamps, &pair, roots
	return nil
}

// verify accepts a peer whose certificate the authority has signed.
func (l *tlsLoader) verify(state tls.ConnectionState) error {
	l.refresh()
	l.mu.Lock()
	roots := l.roots
	l.mu.Unlock()
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: the peer has none", ErrCertificate)
	}
	return verifyChain(roots, state.PeerCertificates[0], state.PeerCertificates[1:])
}

func verifyChain(roots *x509.CertPool, leaf *x509.Certificate, others []*x509.Certificate) error {
	between := x509.NewCertPool()
	for _, c := range others {
		between.AddCert(c)
	}
	// A node connects and is connected to; the issued ones are good for both.
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return fmt.Errorf("%w: of %q: %w", ErrCertificate, leaf.Subject.CommonName, err)
	}
	return nil
}
