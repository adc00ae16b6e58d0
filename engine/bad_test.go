package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"parley/storage"
	"parley/wire"
	"parley/wire/wiretest"
)

// served proves that another client is still served.
func served(t *testing.T, n *Node, witness *raw) {
	t.Helper()
	witness.settled()
	dial(t, n)
}

// What a client sends after a good HELLO, and how the session ends.
func TestBadFramesEndTheSessionWithTheirCode(t *testing.T) {
	n := start(t, Config{})
	user(t, n, "ada")
	user(t, n, "bob")
	witness, _ := live(t, n, "bob", 1, 200)
	tooLarge := append([]byte{byte(wire.TypeSend), 0x84, 0x80, 0x04}, make([]byte, 100)...) // says 65,540 bytes
	for _, test := range []struct {
		name  string
		bytes []byte
		close uint16
	}{
		{"truncated frame", wiretest.Message(wiretest.Binary, []byte{byte(wire.TypeSend), 5, 1}), wire.CodeMalformed.CloseCode()},
		{"oversized frame", wiretest.Message(wiretest.Binary, tooLarge), wire.CodeFrameTooLarge.CloseCode()},
		{"number above 2^53", wiretest.Message(wiretest.Binary, []byte{byte(wire.TypeCursor), 10, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}), wire.CodeMalformed.CloseCode()},
		{"number not in its shortest form", wiretest.Message(wiretest.Binary, []byte{byte(wire.TypeCursor), 3, 2, 0x80, 0}), wire.CodeMalformed.CloseCode()},
		{"unknown frame", wiretest.Message(wiretest.Binary, []byte{127, 0}), wire.CodeUnknownFrame.CloseCode()},
		{"frame of a server", wiretest.Message(wiretest.Binary, wire.AppendPong(nil)), wire.CodeMalformed.CloseCode()},
		{"trailing bytes", wiretest.Message(wiretest.Binary, []byte{byte(wire.TypePing), 1, 0}), wire.CodeMalformed.CloseCode()},
		{"second HELLO", wiretest.Message(wiretest.Binary, wire.AppendHello(nil, &wire.Hello{Version: 1})), wire.CodeMalformed.CloseCode()},
		{"empty reference", wiretest.Message(wiretest.Binary, []byte{byte(wire.TypeTyping), 2, 0, 0}), wire.CodeMalformed.CloseCode()},
		{"text message", wiretest.Message(wiretest.Text, []byte("hello")), 1003},
		{"unmasked frame", []byte{0x82, 2, byte(wire.TypePing), 0}, 1002},
		{"reserved bit", wiretest.Message(0xC2, wire.AppendPing(nil)), 1002},
		{"reserved opcode", wiretest.Message(0x83, wire.AppendPing(nil)), 1002},
		{"continuation of nothing", wiretest.Message(0x80, wire.AppendPing(nil)), 1002},
		{"message of 2^63 bytes", []byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, 1009},
		{"message one byte too long", wiretest.Message(wiretest.Binary, make([]byte, wire.MessageBytesMax+1))[:20], 1009},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := hello(t, n, "ada", 1, 100)
			r.write(test.bytes)
			r.wantClose(test.close)
			served(t, n, witness)
		})
	}
}

func TestHelloIsRefusedWithoutAGoodCredential(t *testing.T) {
	n := start(t, Config{})
	id := user(t, n, "ada")
	good := token(t, n, "ada", 7)
	forged := bytes.Clone(good)
	forged[len(forged)-10] ^= 1
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf(`{"sub":"%d","device":"7","iat":1,"exp":99999999999}`, id))) + "."
	ticket := n.keys.AppendTicket(nil, identityOf(id, 7), wire.TimeOf(time.Now().Add(time.Hour)))
	damaged := bytes.Clone(ticket)
	damaged[20] ^= 1
	old := n.keys.AppendTicket(nil, identityOf(id, 7), wire.TimeOf(time.Now())-1)
	for _, test := range []struct {
		name  string
		hello wire.Hello
		code  wire.Code
	}{
		{"missing", wire.Hello{Version: 1}, wire.CodeUnauthenticated},
		{"forged", wire.Hello{Version: 1, Credential: forged}, wire.CodeUnauthenticated},
		{"without signature", wire.Hello{Version: 1, Credential: []byte(none)}, wire.CodeUnauthenticated},
		{"garbage", wire.Hello{Version: 1, Credential: bytes.Repeat([]byte{0xff}, 2048)}, wire.CodeUnauthenticated},
		{"a token as ticket", wire.Hello{Version: 1, Credential: good, Kind: wire.CredentialTicket}, wire.CodeUnauthenticated},
		{"damaged ticket", wire.Hello{Version: 1, Credential: damaged, Kind: wire.CredentialTicket}, wire.CodeUnauthenticated},
		{"expired ticket", wire.Hello{Version: 1, Credential: old, Kind: wire.CredentialTicket}, wire.CodeTokenExpired},
		{"unknown kind", wire.Hello{Version: 1, Credential: good, Kind: 9}, wire.CodeUnsupported},
		{"version of the future", wire.Hello{Version: 2, Credential: good}, wire.CodeUnsupportedVersion},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := dial(t, n)
			r.send(wire.AppendHello(nil, &test.hello))
			r.wantError(test.code)
			r.wantClose(test.code.CloseCode())
		})
	}
	t.Run("something else first", func(t *testing.T) {
		r := dial(t, n)
		r.send(wire.AppendPing(nil))
		r.wantError(wire.CodeUnauthenticated)
		r.wantClose(wire.CodeUnauthenticated.CloseCode())
	})
	t.Run("a ticket is good", func(t *testing.T) {
		r := dial(t, n)
		r.send(wire.AppendHello(nil, &wire.Hello{Version: 1, Credential: ticket, Kind: wire.CredentialTicket}))
		w, err := wire.ParseWelcome(r.want(wire.TypeWelcome))
		if err != nil || w.User != id || w.Device != 7 || len(w.Ticket) != 0 {
			t.Fatalf("%+v, %v", w, err)
		}
	})
}

func TestBadRequestsAreRefusedAndTheSessionGoesOn(t *testing.T) {
	n := start(t, Config{})
	ada, bob := user(t, n, "ada"), user(t, n, "bob")
	a, _ := live(t, n, "ada", 1, 100)
	b, _ := live(t, n, "bob", 1, 200)

	a.text(wire.DirectRef(12345), 1, "is anybody there")
	a.wantError(wire.CodeUnknownUser)
	a.text(wire.GroupRef(12345), 1, "let me in")
	a.wantError(wire.CodeNotMember)
	a.send(wire.AppendSend(nil, &wire.Send{Correlation: 1, Ref: wire.DirectRef(bob), Counter: 1, Content: wire.Content{Bytes: make([]byte, wire.ContentBytesMax+1)}}))
	a.wantError(wire.CodeBodyTooLarge)
	a.send(wire.AppendSend(nil, &wire.Send{Correlation: 1, Ref: wire.DirectRef(bob), Counter: 1, Content: wire.Content{Bytes: bytes.Repeat([]byte("x"), wire.ContentBytesMax)}}))
	a.until(wire.TypeSent)
	b.until(wire.TypeMessage)
	listed(t, n, ada, 1)
	listed(t, n, bob, 1)

	// A cursor beyond the head is refused; one that goes back changes nothing.
	b.cursor(wire.DirectRef(ada), wire.Read, 2)
	e, err := wire.ParseError(b.until(wire.TypeError))
	if err != nil || e.Code != wire.CodeBadCursor {
		t.Fatalf("%v, %v", e, err)
	}
	b.cursor(wire.DirectRef(ada), wire.Read, 1<<50)
	e, err = wire.ParseError(b.until(wire.TypeError))
	if err != nil || e.Code != wire.CodeBadCursor {
		t.Fatalf("%v, %v", e, err)
	}
	a.text(wire.DirectRef(bob), 2, "second")
	a.until(wire.TypeSent)
	b.cursor(wire.DirectRef(ada), wire.Read, 2)
	a.until(wire.TypeReceipt)
	b.cursor(wire.DirectRef(ada), wire.Read, 1)
	b.cursor(wire.DirectRef(ada), wire.Delivered, 1)
	b.text(wire.DirectRef(ada), 1, "answer")
	b.until(wire.TypeSent)
	if c := b.sync(nil); len(c.Items) != 1 || c.Items[0].Read != 2 || c.Items[0].Delivered != 2 {
		t.Fatalf("a cursor went back: %+v", c)
	}
	// A cursor where there is no conversation.
	a.cursor(wire.DirectRef(777), wire.Read, 1)
	if e, err := wire.ParseError(a.until(wire.TypeError)); err != nil || e.Code != wire.CodeBadCursor {
		t.Fatalf("%v, %v", e, err)
	}
	// A conversation of others is out of reach: a reference always includes oneself.
	page := a.history(wire.History{Ref: wire.DirectRef(777)})
	if len(page.Messages) != 0 || page.Head != 0 {
		t.Fatalf("%+v", page)
	}
	// A token of another cluster, or damaged, starts over.
	for _, token := range [][]byte{{9}, []byte("no token at all"), bytes.Repeat([]byte{1}, wire.SyncTokenBytesMax)} {
		if c := a.sync(token); c.Flags&wire.SyncReset == 0 || len(c.Items) != 1 {
			t.Fatalf("token %x: %+v", token[:1], c)
		}
	}
}

func TestDataDirectoryIsRefused(t *testing.T) {
	open := func(dir string) error {
		n, err := Open(context.Background(), Config{Data: dir, Shards: 2, DiskReserveBytes: -1, Fatal: func(error) {}})
		if err == nil {
			n.Close()
		}
		return err
	}
	t.Run("in use", func(t *testing.T) {
		n := start(t, Config{})
		if err := open(n.config.Data); !errors.Is(err, storage.ErrInUse) {
			t.Fatalf("%v", err)
		}
	})
	t.Run("of a newer format", func(t *testing.T) {
		dir := t.TempDir()
		if err := open(dir); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "FORMAT"))
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.Replace(b, []byte(fmt.Sprint(storage.FormatVersion)), []byte(fmt.Sprint(storage.FormatVersion+1)), 1)
		if err := os.WriteFile(filepath.Join(dir, "FORMAT"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(dir); !errors.Is(err, storage.ErrNewerFormat) {
			t.Fatalf("%v", err)
		}
	})
	t.Run("of something else", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(dir); !errors.Is(err, storage.ErrNotParley) {
			t.Fatalf("%v", err)
		}
	})
	t.Run("with a damaged identity", func(t *testing.T) {
		dir := t.TempDir()
		if err := open(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(dir); !errors.Is(err, ErrIdentity) {
			t.Fatalf("%v", err)
		}
	})
}

func TestConfigurationIsRefused(t *testing.T) {
	good := func() Config { return Config{Data: t.TempDir(), Fatal: func(error) {}} }
	for name, change := range map[string]func(c *Config){
		"no data directory":     func(c *Config) { c.Data = "" },
		"no Fatal":              func(c *Config) { c.Fatal = nil },
		"a shard too many":      func(c *Config) { c.Shards = 257 },
		"a loop too many":       func(c *Config) { c.Loops = LoopsMax + 1 },
		"a ticket too long":     func(c *Config) { c.TicketLifetime = TicketLifetimeMax + 1 },
		"negative connections":  func(c *Config) { c.ConnectionsMax = -1 },
		"a public admin port":   func(c *Config) { c.Admin = "0.0.0.0:0" },
		"a nonsense admin port": func(c *Config) { c.Admin = "nonsense" },
	} {
		c := good()
		change(&c)
		if err := c.Check(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := good()
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

func TestPortInUseIsAnErrorThatNamesIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	_, err = Open(context.Background(), Config{Data: t.TempDir(), Shards: 1, Listen: address, DiskReserveBytes: -1, Fatal: func(error) {}})
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte(address)) {
		t.Fatalf("%v", err)
	}
}
