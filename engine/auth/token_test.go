package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/wire"
)

func TestTokenProvesItsUserAndDevice(t *testing.T) {
	k := newKeys(t)
	id, err := k.VerifyToken(signed(t, k, time.Hour), at(0))
	if want := (Identity{User: user, Device: device, Expires: at(time.Hour)}); err != nil || id != want {
		t.Errorf("%+v, %v", id, err)
	}
	token, err := k.SignToken(user, device, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(token) > wire.CredentialBytesMax {
		t.Errorf("a token has %d bytes", len(token))
	}
	if _, err := k.VerifyToken([]byte(token), wire.TimeOf(time.Now())); err != nil {
		t.Errorf("signed now, refused now: %v", err)
	}
}

func TestTokenIsGoodForItsLifetimeAndTheLeewayAndNotAMomentLonger(t *testing.T) {
	k := newKeys(t)
	token := signed(t, k, time.Hour)
	const leeway = LeewaySeconds * time.Second
	for _, c := range []struct {
		now  time.Duration
		want error
	}{
		{-leeway - time.Millisecond, ErrInvalid}, // issued in the future
		{-leeway, nil},
		{0, nil},
		{time.Hour, nil},
		{time.Hour + leeway - time.Millisecond, nil},
		{time.Hour + leeway, ErrExpired},
		{1000 * time.Hour, ErrExpired},
	} {
		if _, err := k.VerifyToken(token, at(c.now)); !errors.Is(err, c.want) {
			t.Errorf("at %v: %v, want %v", c.now, err, c.want)
		}
	}
}

func TestDamagedTokensAreInvalid(t *testing.T) {
	k := newKeys(t)
	eachDamage(signed(t, k, time.Hour), func(what string, i int, b []byte) {
		if id, err := k.VerifyToken(b, at(0)); !errors.Is(err, ErrInvalid) || id != (Identity{}) {
			t.Fatalf("%s %d: %+v, %v", what, i, id, err)
		}
	})
	// An expired token is "expired" only if its signature is good.
	eachDamage(signed(t, k, time.Hour), func(what string, i int, b []byte) {
		if _, err := k.VerifyToken(b, at(5*time.Hour)); !errors.Is(err, ErrInvalid) {
			t.Fatalf("%s %d, after its end: %v", what, i, err)
		}
	})
}

// goodClaims are what SignToken writes.
func goodClaims() jwt.MapClaims {
	return jwt.MapClaims{"sub": user.String(), "device": device.String(), "iat": start.Unix(), "exp": start.Add(time.Hour).Unix()}
}

// forge signs any header and claims with any method and key.
func forge(t *testing.T, m jwt.SigningMethod, key any, kid any, claims jwt.MapClaims, edit func(header map[string]any)) []byte {
	t.Helper()
	token := jwt.NewWithClaims(m, claims)
	token.Header["kid"] = kid
	if edit != nil {
		edit(token.Header)
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(s)
}

func TestForgedTokensAreInvalid(t *testing.T) {
	k := newKeys(t)
	other := newKeys(t)
	public := k.public[k.signerID]
	ed := jwt.SigningMethodEdDSA
	set := func(name string, value any) func(map[string]any) {
		return func(h map[string]any) { h[name] = value }
	}
	for name, token := range map[string][]byte{
		"algorithm none":                       forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, k.signerID, goodClaims(), nil),
		"HS256 with the public key":            forge(t, jwt.SigningMethodHS256, []byte(public), k.signerID, goodClaims(), nil),
		"HS512 with the public key":            forge(t, jwt.SigningMethodHS512, []byte(public), k.signerID, goodClaims(), nil),
		"HS256 said to be EdDSA":               forge(t, jwt.SigningMethodHS256, []byte(public), k.signerID, goodClaims(), set("alg", "EdDSA")),
		"EdDSA said to be none":                forge(t, ed, k.signer, k.signerID, goodClaims(), set("alg", "none")),
		"alg in lower case":                    forge(t, ed, k.signer, k.signerID, goodClaims(), set("alg", "eddsa")),
		"alg not a string":                     forge(t, ed, k.signer, k.signerID, goodClaims(), set("alg", 1)),
		"another server's key":                 forge(t, ed, other.signer, other.signerID, goodClaims(), nil),
		"another server's key under our id":    forge(t, ed, other.signer, k.signerID, goodClaims(), nil),
		"our key under an unknown id":          forge(t, ed, k.signer, "x", goodClaims(), nil),
		"no key id":                            forge(t, ed, k.signer, nil, goodClaims(), nil),
		"key id not a string":                  forge(t, ed, k.signer, 1, goodClaims(), nil),
		"a header that must be understood":     forge(t, ed, k.signer, k.signerID, goodClaims(), set("crit", []string{"exp"})),
		"a key in the header":                  forge(t, ed, k.signer, k.signerID, goodClaims(), set("jwk", map[string]any{"kty": "OKP"})),
		"another type":                         forge(t, ed, k.signer, k.signerID, goodClaims(), set("typ", "at+jwt")),
		"empty":                                nil,
		"two dots":                             []byte(".."),
		"longer than a credential may be":      append(signed(t, k, time.Hour), make([]byte, wire.CredentialBytesMax)...),
		"with a dot behind it":                 append(signed(t, k, time.Hour), '.'),
		"with white space behind it":           append(signed(t, k, time.Hour), '\n'),
		"signed, but the claims are not JSON":  rawToken(k, `{"alg":"EdDSA","kid":"`+k.signerID+`","typ":"JWT"}`, `nonsense`),
		"signed, but the claims are a list":    rawToken(k, `{"alg":"EdDSA","kid":"`+k.signerID+`","typ":"JWT"}`, `[1]`),
		"signed, but the header is null":       rawToken(k, `null`, `{}`),
		"signed, but the claims are only null": rawToken(k, `{"alg":"EdDSA","kid":"`+k.signerID+`","typ":"JWT"}`, `null`),
	} {
		if id, err := k.VerifyToken(token, at(0)); !errors.Is(err, ErrInvalid) || id != (Identity{}) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	// The same helper with nothing forged is accepted, so the list above proves something.
	if _, err := k.VerifyToken(forge(t, ed, k.signer, k.signerID, goodClaims(), nil), at(0)); err != nil {
		t.Errorf("not forged: %v", err)
	}
}

// rawToken signs any header and body with the right key.
func rawToken(k *Keys, header, body string) []byte {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(body))
	return []byte(text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(k.signer, []byte(text))))
}

func TestSignedTokensWithUnusableClaimsAreInvalid(t *testing.T) {
	k := newKeys(t)
	for name, edit := range map[string]func(jwt.MapClaims){
		"no user":                  func(c jwt.MapClaims) { delete(c, "sub") },
		"no device":                func(c jwt.MapClaims) { delete(c, "device") },
		"no expiry":                func(c jwt.MapClaims) { delete(c, "exp") },
		"no time of issue":         func(c jwt.MapClaims) { delete(c, "iat") },
		"user 0":                   func(c jwt.MapClaims) { c["sub"] = "0" },
		"user above 48 bits":       func(c jwt.MapClaims) { c["sub"] = "281474976710656" },
		"user not in decimal":      func(c jwt.MapClaims) { c["sub"] = "0x10" },
		"user negative":            func(c jwt.MapClaims) { c["sub"] = "-1" },
		"user as a number":         func(c jwt.MapClaims) { c["sub"] = 5 },
		"device as a number":       func(c jwt.MapClaims) { c["device"] = 5 },
		"device a name":            func(c jwt.MapClaims) { c["device"] = "phone" },
		"expiry as a string":       func(c jwt.MapClaims) { c["exp"] = "tomorrow" },
		"expiry before the epoch":  func(c jwt.MapClaims) { c["exp"] = -1 },
		"expiry beyond any number": func(c jwt.MapClaims) { c["exp"] = 1e300 },
	} {
		c := goodClaims()
		edit(c)
		token := forge(t, jwt.SigningMethodEdDSA, k.signer, k.signerID, c, nil)
		if id, err := k.VerifyToken(token, at(0)); err == nil || id != (Identity{}) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

func TestTokensOfAnOlderKeyStayGood(t *testing.T) {
	before, after := keysJSON(t, "old"), keysJSON(t, "new")
	after.Signing = append(after.Signing, before.Signing...)
	token := signed(t, mustParseKeys(t, before), time.Hour)
	if _, err := mustParseKeys(t, after).VerifyToken(token, at(0)); err != nil {
		t.Errorf("with the old key kept: %v", err)
	}
	if _, err := mustParseKeys(t, keysJSON(t, "new")).VerifyToken(token, at(0)); !errors.Is(err, ErrInvalid) {
		t.Errorf("with the old key gone: %v", err)
	}
}

func TestSignTokenRefusesWhatCannotBeVerified(t *testing.T) {
	k := newKeys(t)
	for _, lifetime := range []time.Duration{-time.Hour, 0, time.Second - 1, TokenLifetimeMax + 1} {
		if _, err := k.SignToken(user, device, lifetime); !errors.Is(err, ErrLifetime) {
			t.Errorf("lifetime %v: %v", lifetime, err)
		}
	}
	for _, ids := range [][2]wire.ID{{0, device}, {user, 0}, {1 << wire.IDBits, device}} {
		if _, err := k.SignToken(ids[0], ids[1], time.Hour); !errors.Is(err, wire.ErrBadID) {
			t.Errorf("ids %v: %v", ids, err)
		}
	}
}

func FuzzVerifyToken(f *testing.F) {
	k := fixedKeys(f)
	token := signed(f, k, time.Hour)
	f.Add(token)
	f.Add([]byte(strings.ToUpper(string(token))))
	f.Add(rawToken(k, `{"alg":"EdDSA","kid":"a","typ":"JWT"}`, `{"sub":"1","device":"1","iat":0,"exp":1e18}`))
	f.Add([]byte("e30.e30."))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := k.VerifyToken(b, at(0))
		if (err == nil) != (id != Identity{}) {
			t.Fatalf("%+v, %v", id, err)
		}
		if err == nil && (!id.User.Valid() || !id.Device.Valid()) {
			t.Fatalf("accepted %+v", id)
		}
	})
}

func BenchmarkVerifyToken(b *testing.B) {
	k := newKeys(b)
	token := signed(b, k, time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.VerifyToken(token, at(0)); err != nil {
			b.Fatal(err)
		}
	}
}
