package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Errors of passwords.
var (
	ErrWrongPassword = errors.New("auth: wrong password")
	ErrBadHash       = errors.New("auth: not an argon2id hash in PHC form")
	ErrBadPassword   = fmt.Errorf("auth: a password must have %d to %d bytes", PasswordBytesMin, PasswordBytesMax)
)

// hashing bounds the passwords that are hashed at the same time, in the whole process:
// each takes 19 MiB and a core for 21 ms, and half of the cores stay with the chat.
var hashing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// acquire waits for a place among those who hash.
func acquire(ctx context.Context) error {
	select {
	case hashing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("auth: wait to hash a password: %w", context.Cause(ctx))
	}
}

func release() { <-hashing }

// CheckPassword reports whether a password is within its bounds. There is no other
// rule: rules of composition make passwords weaker (NIST SP 800-63B, section 3.1.1.2).
func CheckPassword(password []byte) error {
	if len(password) < PasswordBytesMin || len(password) > PasswordBytesMax {
		return ErrBadPassword
	}
	return nil
}

// HashPassword makes the PHC string of a password: argon2id, its setting, a random salt
// and the hash. It waits for its turn for as long as ctx allows.
func HashPassword(ctx context.Context, password []byte) (string, error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	salt := make([]byte, argonSaltBytes)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("auth: draw a salt: %w", err)
	}
	h := phc{memoryKiB: argonMemoryKiB, time: argonTime, threads: argonThreads, salt: salt}
	key, err := h.derive(ctx, password, argonKeyBytes)
	if err != nil {
		return "", err
	}
	h.key = key
	return h.String(), nil
}

// VerifyPassword compares a password with a PHC string: nil if it is the one,
// ErrWrongPassword if not, ErrBadHash if the string says nothing.
func VerifyPassword(ctx context.Context, hash string, password []byte) error {
	h, err := parsePHC(hash)
	if err != nil {
		return err
	}
	if CheckPassword(password) != nil {
		return ErrWrongPassword
	}
	key, err := h.derive(ctx, password, uint32(len(h.key)))
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(key, h.key) != 1 {
		return ErrWrongPassword
	}
	return nil
}

// A phc is a password hash and how it was made, as the PHC string format writes it:
// $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>, both in base64 without padding.
type phc struct {
	memoryKiB, time uint32
	threads         uint8
	salt, key       []byte
}

// encoding is the PHC format's base64; strict, so that a hash has one spelling.
var encoding = base64.RawStdEncoding.Strict()

func (h phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memoryKiB, h.time, h.threads,
		encoding.EncodeToString(h.salt), encoding.EncodeToString(h.key))
}

func (h phc) derive(ctx context.Context, password []byte, size uint32) ([]byte, error) {
	if err := acquire(ctx); err != nil {
		return nil, err
	}
	defer release()
	return argon2.IDKey(password, h.salt, h.time, h.memoryKiB, h.threads, size), nil
}

func parsePHC(text string) (phc, error) {
	var h phc
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return phc{}, ErrBadHash
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memoryKiB, &h.time, &h.threads); err != nil || n != 3 {
		return phc{}, ErrBadHash
	}
	var saltErr, keyErr error
	h.salt, saltErr = encoding.DecodeString(parts[4])
	h.key, keyErr = encoding.DecodeString(parts[5])
	switch {
	case saltErr != nil || keyErr != nil,
		h.memoryKiB < 8*uint32(h.threads) || h.memoryKiB > argonMemoryKiBMax,
		h.time < 1 || h.time > argonTimeMax,
		h.threads < 1 || h.threads > argonThreadsMax,
		len(h.salt) < 8 || len(h.salt) > 64,
		len(h.key) < 16 || len(h.key) > 64,
		h.String() != text: // signs, leading zeros, anything after the numbers
		return phc{}, ErrBadHash
	}
	return h, nil
}
