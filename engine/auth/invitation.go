package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// InvitationLifetimeMax bounds the time in which a node can join by an invitation.
const InvitationLifetimeMax = 30 * 24 * time.Hour

// ErrInvitation reports an invitation that this cluster did not give, or not lately.
var ErrInvitation = errors.New("auth: not a valid invitation")

// invitationAudience tells an invitation from a user's token, which the same keys sign.
const invitationAudience = "parley-node"

// SignInvitation makes a token with which a node can join the cluster.
func (k *Keys) SignInvitation(now time.Time, lifetime time.Duration) (string, error) {
	if lifetime < time.Second || lifetime > InvitationLifetimeMax {
		return "", fmt.Errorf("%w: it must live for 1s to %v", ErrInvitation, InvitationLifetimeMax)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &jwt.RegisteredClaims{
		Audience: jwt.ClaimStrings{invitationAudience}, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
	})
	t.Header["kid"] = k.signerID
	text, err := t.SignedString(k.signer)
	if err != nil {
		return "", fmt.Errorf("auth: sign an invitation: %w", err)
	}
	return text, nil
}

// VerifyInvitation says why an invitation is not good now, if so.
func (k *Keys) VerifyInvitation(text string, now time.Time) error {
	if text == "" {
		return fmt.Errorf("%w: there is none; `parley node add` on a member prints one", ErrInvitation)
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(), jwt.WithAudience(invitationAudience),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(func() time.Time { return now }))
	_, err := parser.ParseWithClaims(text, &jwt.RegisteredClaims{}, k.publicKey)
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return fmt.Errorf("%w: it has expired; `parley node add` on a member prints a new one", ErrInvitation)
	case err != nil:
		return fmt.Errorf("%w: it is not of this cluster", ErrInvitation)
	}
	return nil
}
