package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/wire"
)

// Errors of credentials. They do not say what was wrong with an invalid one: that
// would help only who forges it.
var (
	ErrInvalid  = errors.New("auth: not a valid credential")
	ErrExpired  = errors.New("auth: the credential has expired")
	ErrLifetime = fmt.Errorf("auth: a token must live for 1s to %v", TokenLifetimeMax)
)

// An Identity is what a good credential proves.
type Identity struct {
	User    wire.ID
	Device  wire.ID
	Expires wire.Time // from this moment on the credential is no longer good
}

// claims are the body of a token. All four are required, and nothing else is read.
type claims struct {
	Subject  string           `json:"sub"`    // the user, in decimal
	Device   string           `json:"device"` // in decimal
	IssuedAt *jwt.NumericDate `json:"iat"`
	Expires  *jwt.NumericDate `json:"exp"`
}

// The methods that make claims a jwt.Claims.

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.IssuedAt, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (c *claims) GetIssuer() (string, error)                   { return "", nil }
func (c *claims) GetSubject() (string, error)                  { return c.Subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

// SignToken makes a token for a device of a user, good from now on for a lifetime of
// one second to TokenLifetimeMax. Times in it are whole seconds.
func (k *Keys) SignToken(user, device wire.ID, lifetime time.Duration) (string, error) {
	return k.signTokenAt(user, device, time.Now(), lifetime)
}

func (k *Keys) signTokenAt(user, device wire.ID, now time.Time, lifetime time.Duration) (string, error) {
	if lifetime < time.Second || lifetime > TokenLifetimeMax {
		return "", ErrLifetime
	}
	if !user.Valid() || !device.Valid() {
		return "", wire.ErrBadID
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &claims{
		Subject:  user.String(),
		Device:   device.String(),
		IssuedAt: jwt.NewNumericDate(now),
		Expires:  jwt.NewNumericDate(now.Add(lifetime)),
	})
	t.Header["kid"] = k.signerID
	signed, err := t.SignedString(k.signer)
	if err != nil {
		return "", fmt.Errorf("auth: sign a token: %w", err)
	}
	return signed, nil
}

// VerifyToken checks a token at a moment and says whom it is for. The clock that signed
// it may differ by LeewaySeconds. The error is ErrExpired for a token that was good
// once, and ErrInvalid for everything else.
func (k *Keys) VerifyToken(token []byte, now wire.Time) (Identity, error) {
	if len(token) > wire.CredentialBytesMax || !compact(token) {
		return Identity{}, ErrInvalid
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithStrictDecoding(), // one spelling a token: no bit of it is free
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(LeewaySeconds*time.Second),
		jwt.WithTimeFunc(now.Time),
	)
	var c claims
	if _, err := parser.ParseWithClaims(string(token), &c, k.publicKey); err != nil {
		// Expiry is looked at after the signature, so it is said only to who had a token.
		if errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenUsedBeforeIssued) {
			return Identity{}, ErrExpired
		}
		return Identity{}, ErrInvalid
	}
	user, userErr := wire.ParseID(c.Subject)
	device, deviceErr := wire.ParseID(c.Device)
	if userErr != nil || deviceErr != nil || c.IssuedAt == nil {
		return Identity{}, ErrInvalid
	}
	return Identity{User: user, Device: device, Expires: wire.TimeOf(c.Expires.Time)}, nil
}

// compact reports whether a token is made of base64url and dots only. The decoder skips
// line ends, which would give one token many spellings.
func compact(token []byte) bool {
	for _, b := range token {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '-', b == '_', b == '.':
		default:
			return false
		}
	}
	return true
}

// publicKey finds the key that a token's header names. A header says the algorithm, the
// type and the key; with anything more, it asks for what this package does not do.
func (k *Keys) publicKey(t *jwt.Token) (any, error) {
	id, _ := t.Header["kid"].(string)
	public, ok := k.public[id]
	if !ok || len(t.Header) != 3 || t.Header["typ"] != "JWT" {
		return nil, ErrInvalid
	}
	return public, nil
}
