package auth

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Errors of the key file.
var (
	ErrKeysDamaged = errors.New("auth: the key file is damaged: restore it from a backup, or remove it to make new keys (every token and ticket is then void)")
	ErrKeysNewer   = errors.New("auth: the key file was written by a newer version of Parley: use that version")
	ErrKeysPublic  = errors.New("auth: others than the owner can read the key file: chmod 600 it, and make new keys if somebody may have read it")
)

// keysVersion is the form of keys.json that this package writes.
const keysVersion = 1

const (
	seedBytes      = ed25519.SeedSize
	ticketKeyBytes = sha256.Size
	keyIDBytes     = 4 // of a random key id, written as eight hexadecimal digits
)

// keysFile is keys.json. The first key of each kind is used for new credentials; all
// of them are good for checking, so that a key can be replaced without logging out.
type keysFile struct {
	Version  int          `json:"version"`
	Signing  []signingKey `json:"signing"`
	Ticket   []ticketKey  `json:"ticket"`
	Checksum string       `json:"checksum"`
}

// checksum is over everything else in the file: a flipped bit in a key makes another key,
// with which nobody's credential is good any more and nothing says why.
func (f keysFile) checksum() (string, error) {
	f.Checksum = ""
	b, err := json.Marshal(f)
	return fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))), err
}

type signingKey struct {
	ID   string `json:"id"`
	Seed []byte `json:"seed"` // base64
}

type ticketKey struct {
	Number uint8  `json:"number"` // in each ticket, to find the key
	Key    []byte `json:"key"`    // base64
}

// Keys are the secrets of one cluster: Ed25519 keys for tokens and MAC keys for
// tickets. They never change after loading; any goroutine may use them.
type Keys struct {
	signer   ed25519.PrivateKey
	signerID string
	public   map[string]ed25519.PublicKey // by key id
	ticket   uint8                        // the number of the key for new tickets
	macs     [256]*macPool                // by number; nil: no such key
}

// LoadOrCreateKeys reads the key file, or makes one with fresh keys if there is none.
// The new file is complete and on disk, with mode 0600, before it has its name.
func LoadOrCreateKeys(path string) (*Keys, error) {
	k, err := loadKeys(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	file, err := newKeysFile()
	if err != nil {
		return nil, err
	}
	if err := writeKeys(path, file); err != nil {
		return nil, fmt.Errorf("auth: create the key file: %w", err)
	}
	// What counts is what is on disk: somebody else may have been first.
	return loadKeys(path)
}

// GenerateKeys draws fresh keys and returns the content of a key file, for whoever keeps it
// elsewhere than LoadOrCreateKeys would.
func GenerateKeys() ([]byte, error) {
	file, err := newKeysFile()
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(file, "", "  ")
	return append(b, '\n'), err
}

// ParseKeys reads the content of a key file.
func ParseKeys(content []byte) (*Keys, error) { return parseKeys(content) }

// CheckKeys reports whether LoadOrCreateKeys would take the key file. It changes nothing.
func CheckKeys(path string) error {
	_, err := loadKeys(path)
	return err
}

func loadKeys(path string) (*Keys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("auth: read the key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("auth: read the key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %#o", ErrKeysPublic, path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, keysFileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("auth: read the key file: %w", err)
	}
	k, err := parseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, path)
	}
	return k, nil
}

func parseKeys(b []byte) (*Keys, error) {
	var file keysFile
	if len(b) > keysFileBytesMax || json.Unmarshal(b, &file) != nil {
		return nil, ErrKeysDamaged
	}
	if file.Version > keysVersion {
		return nil, ErrKeysNewer
	}
	if file.Version != keysVersion || !within(len(file.Signing)) || !within(len(file.Ticket)) {
		return nil, ErrKeysDamaged
	}
	if sum, err := file.checksum(); err != nil || sum != file.Checksum {
		return nil, ErrKeysDamaged
	}
	k := &Keys{public: make(map[string]ed25519.PublicKey, len(file.Signing))}
	for i, s := range file.Signing {
		if s.ID == "" || len(s.Seed) != seedBytes || k.public[s.ID] != nil {
			return nil, ErrKeysDamaged
		}
		private := ed25519.NewKeyFromSeed(s.Seed)
		k.public[s.ID] = private.Public().(ed25519.PublicKey)
		if i == 0 {
			k.signer, k.signerID = private, s.ID
		}
	}
	for i, t := range file.Ticket {
		if len(t.Key) != ticketKeyBytes || k.macs[t.Number] != nil {
			return nil, ErrKeysDamaged
		}
		k.macs[t.Number] = newMACPool(t.Key)
		if i == 0 {
			k.ticket = t.Number
		}
	}
	return k, nil
}

func within(n int) bool { return n >= 1 && n <= KeysMax }

func newKeysFile() (keysFile, error) {
	secret := make([]byte, seedBytes+ticketKeyBytes+keyIDBytes)
	if _, err := rand.Read(secret); err != nil {
		return keysFile{}, fmt.Errorf("auth: draw keys: %w", err)
	}
	seed, rest := secret[:seedBytes], secret[seedBytes:]
	file := keysFile{
		Version: keysVersion,
		Signing: []signingKey{{ID: hex.EncodeToString(rest[ticketKeyBytes:]), Seed: seed}},
		Ticket:  []ticketKey{{Number: 1, Key: rest[:ticketKeyBytes]}},
	}
	sum, err := file.checksum()
	file.Checksum = sum
	return file, err
}

// writeKeys writes a temporary file beside path, makes it durable, and links it to the
// name, which fails without harm if the name is taken.
func writeKeys(path string, file keysFile) (err error) {
	b, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	// CreateTemp gives mode 0600.
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A mac is one keyed HMAC with the room that it works in, so that neither escapes to
// the heap for each ticket.
type mac struct {
	hash hash.Hash
	in   [TicketBytes - ticketTagBytes]byte
	out  [sha256.Size]byte
}

// macPool keeps keyed HMACs, whose first two blocks are already hashed.
type macPool struct{ pool sync.Pool }

func newMACPool(key []byte) *macPool {
	key = slices.Clone(key)
	return &macPool{pool: sync.Pool{New: func() any { return &mac{hash: hmac.New(sha256.New, key)} }}}
}

// sum is the tag of a ticket's first bytes. The caller passes the mac back with put.
func (p *macPool) sum(body []byte) (*mac, []byte) {
	m := p.pool.Get().(*mac)
	copy(m.in[:], body)
	m.hash.Reset()
	m.hash.Write(m.in[:])
	return m, m.hash.Sum(m.out[:0])[:ticketTagBytes]
}

func (p *macPool) put(m *mac) { p.pool.Put(m) }
