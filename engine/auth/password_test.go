package auth

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

func TestPasswordHashIsTheOWASPSettingInPHCForm(t *testing.T) {
	ctx := t.Context()
	password := []byte("correct horse battery staple")
	hash, err := HashPassword(ctx, password)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %q", hash)
	}
	if err := VerifyPassword(ctx, hash, password); err != nil {
		t.Errorf("the right password: %v", err)
	}
	for _, wrong := range []string{"correct horse battery stapl", "correct horse battery staple ", "Correct horse battery staple", "", "x"} {
		if err := VerifyPassword(ctx, hash, []byte(wrong)); !errors.Is(err, ErrWrongPassword) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	again, err := HashPassword(ctx, password)
	if err != nil || again == hash {
		t.Errorf("two hashes of a password are the same: %v", err)
	}
}

func TestPasswordHashOfAnotherImplementationIsUnderstood(t *testing.T) {
	// From the tests of the reference implementation (github.com/P-H-C/phc-winner-argon2).
	for _, c := range []struct{ hash, password string }{
		{"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"},
		{"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"},
	} {
		if err := VerifyPassword(t.Context(), c.hash, []byte(c.password)); err != nil {
			t.Errorf("%s: %v", c.hash, err)
		}
	}
}

func TestBadHashesAreRefusedBeforeTheyCost(t *testing.T) {
	const salt, key = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, hash := range []string{
		"", "$", "$$$$$", "plain",
		"$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=16$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=4294967295,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=4294967295,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=255$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=7,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=-1,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=019456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1,x=1$" + salt + "$" + key,
		"$argon2id$v=19$t=2,m=19456,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "=$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$",
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + key + "$",
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + strings.Repeat("AAAA", 30),
	} {
		if err := VerifyPassword(t.Context(), hash, []byte("password")); !errors.Is(err, ErrBadHash) {
			t.Errorf("%q: %v", hash, err)
		}
	}
}

func TestPasswordsAreBounded(t *testing.T) {
	for _, n := range []int{0, PasswordBytesMin - 1, PasswordBytesMax + 1} {
		if _, err := HashPassword(t.Context(), bytes.Repeat([]byte{'x'}, n)); !errors.Is(err, ErrBadPassword) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, n := range []int{PasswordBytesMin, PasswordBytesMax} {
		if err := CheckPassword(bytes.Repeat([]byte{'x'}, n)); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestHashingWaitsForItsTurnOnlyAsLongAsTheContext(t *testing.T) {
	for range cap(hashing) {
		if err := acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := HashPassword(ctx, []byte("password")); !errors.Is(err, context.Canceled) {
		t.Errorf("all places taken: %v", err)
	}
	for range cap(hashing) {
		release()
	}
	if _, err := HashPassword(t.Context(), []byte("password")); err != nil {
		t.Errorf("places free again: %v", err)
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=+1,t= 2,p=1$$")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := parsePHC(text); err == nil && h.String() != text {
			t.Fatalf("%q is written %q", text, h.String())
		}
	})
}

func BenchmarkHashPassword(b *testing.B) {
	for b.Loop() {
		if _, err := HashPassword(b.Context(), []byte("correct horse battery staple")); err != nil {
			b.Fatal(err)
		}
	}
}
