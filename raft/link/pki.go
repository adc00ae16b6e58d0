package link

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The files of a small public key infrastructure. ca.key signs: it belongs on no node.
const (
	AuthorityFile    = "ca.pem"
	AuthorityKeyFile = "ca.key"
	NodeFile         = "node.pem"
	NodeKeyFile      = "node.key"
)

// How long certificates are good. A year is short enough that renewing is practised; the
// authority outlives ten of them, because replacing it takes two steps on every node.
const (
	AuthorityLifetime = 10 * 365 * 24 * time.Hour
	NodeLifetime      = 365 * 24 * time.Hour
)

// clockSkew is how far a node's clock may be behind the one that signed.
const clockSkew = time.Hour

// nodeNameBytesMax bounds the name in a certificate: X.509 allows no more.
const nodeNameBytesMax = 64

// Errors of certificates.
var (
	// ErrCertificate is wrapped by what is wrong with a certificate, a key or their files.
	ErrCertificate = errors.New("link: bad certificate")
	// ErrAuthority is wrapped by what is wrong with a directory that should hold an authority.
	ErrAuthority = errors.New("link: bad certificate authority")
)

// An Authority signs certificates. A link trusts who has one, whatever its name: an authority
// must sign for the nodes of one cluster and nobody else.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	pem         []byte
}

// OpenAuthority reads ca.pem and ca.key in a directory, and makes both if neither is there.
func OpenAuthority(dir string) (a *Authority, created bool, err error) {
	pemPath, keyPath := filepath.Join(dir, AuthorityFile), filepath.Join(dir, AuthorityKeyFile)
	certificate, err := os.ReadFile(pemPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	key, keyErr := os.ReadFile(keyPath)
	switch {
	case keyErr != nil && !errors.Is(keyErr, fs.ErrNotExist):
		return nil, false, keyErr
	case err != nil && keyErr != nil:
		a, err = createAuthority(dir)
		return a, err == nil, err
	case err != nil:
		return nil, false, fmt.Errorf("%w: %s is there but %s is not", ErrAuthority, keyPath, AuthorityFile)
	case keyErr != nil:
		return nil, false, fmt.Errorf("%w: %s is there but its key, %s, is not: sign where the key is kept", ErrAuthority, pemPath, AuthorityKeyFile)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %s and %s: %w", ErrAuthority, pemPath, AuthorityKeyFile, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	switch {
	case !ok || !pair.Leaf.IsCA:
		return nil, false, fmt.Errorf("%w: %s cannot sign certificates", ErrAuthority, pemPath)
	case time.Now().After(pair.Leaf.NotAfter):
		return nil, false, fmt.Errorf("%w: %s was good until %s", ErrAuthority, pemPath, pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	return &Authority{pair.Leaf, signer, certificate}, false, nil
}

func createAuthority(dir string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate("Parley cluster authority", AuthorityLifetime)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &Authority{certificate, key, encodeCertificate(der)}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, AuthorityKeyFile), keyPEM, 0o600); err != nil {
		return nil, err
	}
	return a, writeFile(filepath.Join(dir, AuthorityFile), a.pem, 0o644)
}

// PEM returns the authority's certificate, which every node needs.
func (a *Authority) PEM() []byte { return a.pem }

// Issue makes a key and a certificate for a node. Hosts are names and addresses that it is
// reached by; they are for people and other programs, since links do not look at them.
func (a *Authority) Issue(name string, hosts []string, lifetime time.Duration) (certificate, key []byte, err error) {
	if err := CheckNodeName(name); err != nil {
		return nil, nil, err
	}
	template, err := newTemplate(name, lifetime)
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{name}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != name {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	template.NotAfter = a.Until(lifetime)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	key, err = encodeKey(private)
	return encodeCertificate(der), key, err
}

// Until returns when a certificate ends that is issued now: not later than the authority.
func (a *Authority) Until(lifetime time.Duration) time.Time {
	until := time.Now().Add(lifetime)
	if until.After(a.certificate.NotAfter) {
		return a.certificate.NotAfter
	}
	return until
}

// CheckNodeName refuses names that a certificate or a cluster map could not hold.
func CheckNodeName(name string) error {
	plain := name != "" && len(name) <= nodeNameBytesMax
	for _, r := range name {
		plain = plain && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	}
	if !plain {
		return fmt.Errorf("%w: the name %q must be 1 to %d letters, digits, dots, dashes or underscores", ErrCertificate, name, nodeNameBytesMax)
	}
	return nil
}

// WriteNode writes a node's certificate and key, and the authority's certificate beside them. It
// renews a certificate of the same name in place, which a running node notices, and refuses to
// replace another's.
func (a *Authority) WriteNode(dir, name string, certificate, key []byte) error {
	old, err := os.ReadFile(filepath.Join(dir, NodeFile))
	if err == nil {
		if leaf, err := parseCertificate(old); err != nil || leaf.Subject.CommonName != name {
			return fmt.Errorf("%w: %s is not of node %q: choose another directory, or remove it",
				ErrCertificate, filepath.Join(dir, NodeFile), name)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// A node that looks in between finds a pair that does not match, and looks again.
	for _, f := range []struct {
		name string
		data []byte
		mode fs.FileMode
	}{{AuthorityFile, a.pem, 0o644}, {NodeKeyFile, key, 0o600}, {NodeFile, certificate, 0o644}} {
		if err := writeFile(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
			return err
		}
	}
	return nil
}

func newTemplate(name string, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Parley"}},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(lifetime),
	}, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseCertificate(b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, ErrCertificate
	}
	return x509.ParseCertificate(block.Bytes)
}

// writeFile replaces a file whole or not at all.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
