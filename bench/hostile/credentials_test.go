//go:build linux

package hostile

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/wire"
)

func TestCredentialsThatAreNotGoodAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	other := serve(t, t.TempDir())
	w := s.witness(t)
	id := s.user(t, "mallory")
	other.user(t, "mallory")
	good := s.token(t, "mallory", 7, time.Hour)
	ticket := s.dial(t).greet(t, &wire.Hello{Version: wire.Version, Credential: good}).Ticket
	if len(ticket) == 0 {
		t.Fatal("no ticket for a token")
	}
	flipped := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":"%d","device":"7","iat":1,"exp":99999999999}`, id)
	parts := bytes.Split(good, []byte("."))
	dot := bytes.IndexByte(good, '.')
	type hello = wire.Hello
	for _, test := range []struct {
		name  string
		hello hello
		code  wire.Code
	}{
		{"missing", hello{Version: 1}, wire.CodeUnauthenticated},
		{"missing ticket", hello{Version: 1, Kind: wire.CredentialTicket}, wire.CodeUnauthenticated},
		{"forged signature", hello{Version: 1, Credential: flipped(good, len(good)-10)}, wire.CodeUnauthenticated},
		{"forged claims", hello{Version: 1, Credential: flipped(good, dot+9)}, wire.CodeUnauthenticated},
		{"forged header", hello{Version: 1, Credential: flipped(good, 5)}, wire.CodeUnauthenticated},
		{"of another server", hello{Version: 1, Credential: other.token(t, "mallory", 7, time.Hour)}, wire.CodeUnauthenticated},
		{"algorithm none", hello{Version: 1, Credential: []byte(encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(claims)) + ".")}, wire.CodeUnauthenticated},
		{"algorithm HS256", hello{Version: 1, Credential: []byte(encode([]byte(`{"alg":"HS256"}`)) + "." + encode([]byte(claims)) + "." + string(parts[2]))}, wire.CodeUnauthenticated},
		{"without its signature", hello{Version: 1, Credential: good[:bytes.LastIndexByte(good, '.')+1]}, wire.CodeUnauthenticated},
		{"garbage", hello{Version: 1, Credential: bytes.Repeat([]byte{0xff}, wire.CredentialBytesMax)}, wire.CodeUnauthenticated},
		{"dots", hello{Version: 1, Credential: bytes.Repeat([]byte{'.'}, wire.CredentialBytesMax)}, wire.CodeUnauthenticated},
		{"a token as ticket", hello{Version: 1, Credential: good, Kind: wire.CredentialTicket}, wire.CodeUnauthenticated},
		{"a ticket as token", hello{Version: 1, Credential: ticket}, wire.CodeUnauthenticated},
		{"forged ticket", hello{Version: 1, Credential: flipped(ticket, len(ticket)-1), Kind: wire.CredentialTicket}, wire.CodeUnauthenticated},
		{"ticket for another user", hello{Version: 1, Credential: flipped(ticket, 8), Kind: wire.CredentialTicket}, wire.CodeUnauthenticated},
		{"cut ticket", hello{Version: 1, Credential: ticket[:len(ticket)-1], Kind: wire.CredentialTicket}, wire.CodeUnauthenticated},
		{"long ticket", hello{Version: 1, Credential: append(bytes.Clone(ticket), 0), Kind: wire.CredentialTicket}, wire.CodeUnauthenticated},
		{"unknown kind", hello{Version: 1, Credential: good, Kind: 9}, wire.CodeUnsupported},
		{"version 0", hello{Credential: good}, wire.CodeUnsupportedVersion},
		{"version 2", hello{Version: 2, Credential: good}, wire.CodeUnsupportedVersion},
		{"version 2^53-1", hello{Version: wire.NumberMax, Credential: good}, wire.CodeUnsupportedVersion},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.during(t, func() {
				c := s.dial(t)
				// What comes with a HELLO that is refused must not be done.
				frames := wire.AppendHello(nil, &test.hello)
				c.send(wire.AppendSend(frames, &wire.Send{Correlation: 1, Ref: wire.DirectRef(w.will.user), Counter: 1, Content: wire.Text("boo")}))
				c.wantRefusal(t, test.code)
			})
		})
	}
	// Nothing was said to will, and what is good is still good.
	c := s.dial(t)
	c.greet(t, &wire.Hello{Version: wire.Version, Credential: ticket, Kind: wire.CredentialTicket})
	if texts, err := c.history(wire.DirectRef(w.will.user), 0); err != nil || len(texts) != 0 {
		t.Errorf("a refused session has said %q, %v", texts, err)
	}
}

// sign makes a token of any claims with the server's own key: what only its operator could do.
func (s *server) sign(t *testing.T, claims string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	var keys struct {
		Signing []struct {
			ID   string `json:"id"`
			Seed []byte `json:"seed"`
		} `json:"signing"`
	}
	if err := json.Unmarshal(b, &keys); err != nil || len(keys.Signing) == 0 {
		t.Fatalf("%d keys, %v", len(keys.Signing), err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"EdDSA","typ":"JWT","kid":"`+keys.Signing[0].ID+`"}`)) + "." + encode([]byte(claims))
	return []byte(signed + "." + encode(ed25519.Sign(ed25519.NewKeyFromSeed(keys.Signing[0].Seed), []byte(signed))))
}

func TestWellSignedTokensAreJudgedByTheirClaims(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	id := s.user(t, "mallory")
	now := time.Now().Unix()
	claims := func(sub, device string, issued, expires int64) string {
		return fmt.Sprintf(`{"sub":%q,"device":%q,"iat":%d,"exp":%d}`, sub, device, issued, expires)
	}
	for _, test := range []struct {
		name, claims string
		code         wire.Code // 0: good
	}{
		{"good", claims(id.String(), "7", now, now+60), 0},
		{"expired an hour ago", claims(id.String(), "7", now-7200, now-3600), wire.CodeTokenExpired},
		{"expired in 1970", claims(id.String(), "7", 1, 2), wire.CodeTokenExpired},
		{"issued in an hour", claims(id.String(), "7", now+3600, now+7200), wire.CodeUnauthenticated},
		{"without an end", fmt.Sprintf(`{"sub":"%d","device":"7","iat":%d}`, id, now), wire.CodeUnauthenticated},
		{"user 0", claims("0", "7", now, now+60), wire.CodeUnauthenticated},
		{"user 2^48", claims("281474976710656", "7", now, now+60), wire.CodeUnauthenticated},
		{"user 2^64-1", claims("18446744073709551615", "7", now, now+60), wire.CodeUnauthenticated},
		{"user -1", claims("-1", "7", now, now+60), wire.CodeUnauthenticated},
		{"device 0", claims(id.String(), "0", now, now+60), wire.CodeUnauthenticated},
		{"no device", claims(id.String(), "", now, now+60), wire.CodeUnauthenticated},
		{"not JSON", `{{{`, wire.CodeUnauthenticated},
		{"a deep nest", strings.Repeat("[", 1000), wire.CodeUnauthenticated},
		{"end of 10^300", fmt.Sprintf(`{"sub":"%d","device":"7","iat":%d,"exp":1e300}`, id, now), wire.CodeTokenExpired}, // not a moment: it is none that is to come
	} {
		t.Run(test.name, func(t *testing.T) {
			w.during(t, func() {
				c := s.dial(t)
				c.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version, Credential: s.sign(t, test.claims)}))
				if test.code == 0 {
					c.want(t, wire.TypeWelcome)
					return
				}
				c.wantRefusal(t, test.code)
			})
		})
	}
}

func TestTicketsExpire(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--ticket-lifetime", "1s")
	w := s.witness(t)
	s.user(t, "mallory")
	token := s.token(t, "mallory", 7, time.Hour)
	w.during(t, func() {
		ticket := s.dial(t).greet(t, &wire.Hello{Version: wire.Version, Credential: token}).Ticket
		eventually(t, "the ticket expires", func() bool {
			c := s.dial(t)
			defer c.Close()
			c.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version, Credential: ticket, Kind: wire.CredentialTicket}))
			if f, err := c.Next(); err != nil || f.Type == wire.TypeWelcome {
				return false
			}
			c.wantClose(t, wire.CodeTokenExpired.CloseCode())
			return true
		})
		// A token is still good, and gives another ticket.
		if w := s.dial(t).greet(t, &wire.Hello{Version: wire.Version, Credential: token}); len(w.Ticket) == 0 {
			t.Error("no ticket")
		}
	})
}

// A second session of a device ends the first, whatever the first was doing.
func TestASecondSessionOfADeviceReplacesTheFirst(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	ref := wire.DirectRef(s.user(t, "mallory"))
	hello := &wire.Hello{Version: wire.Version, OutboxEpoch: 5, Credential: s.token(t, "mallory", 7, time.Hour)}
	w.during(t, func() {
		old := s.dial(t)
		old.greet(t, hello)
		for i := range uint64(100) {
			c := s.dial(t)
			c.greet(t, hello)
			old.wantClose(t, wire.CodeReplaced.CloseCode())
			if got := c.say(t, ref, i+1, "still me"); got != i+1 {
				t.Fatalf("sequence %d of counter %d", got, i+1)
			}
			old = c
		}
		if texts, err := old.history(ref, 0); err != nil || len(texts) != 100 {
			t.Errorf("%d messages, %v", len(texts), err)
		}
	})
	// All at once: each but one is replaced.
	w.during(t, func() {
		clients := make([]*client, 50)
		for i := range clients {
			clients[i] = s.dial(t)
		}
		for _, c := range clients {
			c.send(wire.AppendPing(wire.AppendHello(nil, hello)))
		}
		left := 0
		for _, c := range clients {
			c.want(t, wire.TypeWelcome)
			c.want(t, wire.TypePong)
		}
		for _, c := range clients {
			c.send(wire.AppendPing(nil))
			if _, err := c.await(wire.TypePong); err == nil {
				left++
			} else if c.Code != wire.CodeReplaced.CloseCode() {
				t.Errorf("close code %d", c.Code)
			}
		}
		if left != 1 {
			t.Errorf("%d sessions of one device are left", left)
		}
	})
}
