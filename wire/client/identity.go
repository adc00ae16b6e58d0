package client

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"parley/wire"
)

// identityOf reads whom a token speaks for, without checking that it is true: so that an
// outbox is never sent in another user's name. Zeros: the token does not tell.
func identityOf(token string) (user, device wire.ID) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0, 0
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return 0, 0
	}
	var claims struct {
		Subject string `json:"sub"`
		Device  string `json:"device"`
	}
	if json.Unmarshal(text, &claims) != nil {
		return 0, 0
	}
	user, userErr := wire.ParseID(claims.Subject)
	device, deviceErr := wire.ParseID(claims.Device)
	if userErr != nil || deviceErr != nil {
		return 0, 0
	}
	return user, device
}
