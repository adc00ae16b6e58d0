package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"parley/wire"
)

// rawServer is a server that says what a test wants, byte by byte: serve gets each
// connection after its upgrade, and HELLO has been read and answered.
func rawServer(t *testing.T, serve func(conn net.Conn)) Options {
	t.Helper()
	o := Options{Address: "ws://server.test", Seed: 3, Token: func(context.Context) (string, error) { return "token", nil }}
	o.Dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			upgrader := ws.Upgrader{Protocol: func([]byte) bool { return true }}
			if _, err := upgrader.Upgrade(theirs); err != nil {
				return
			}
			if _, err := ws.ReadFrame(theirs); err != nil {
				return
			}
			welcome := wire.AppendWelcome(nil, &wire.Welcome{User: alice, Device: simDevice, HeartbeatSeconds: 25, ClusterEpoch: 1})
			if ws.WriteFrame(theirs, ws.NewBinaryFrame(welcome)) == nil {
				serve(theirs)
			}
		}()
		return ours, nil
	}
	return o
}

func push(sequence uint64) []byte {
	return wire.AppendMessage(nil, &wire.Message{Ref: toBob, Sequence: sequence, Revision: sequence, Content: wire.Text("m")})
}

func synced() []byte {
	return wire.AppendConversations(nil, &wire.Conversations{Correlation: 1, Token: []byte("t")})
}

// drain reads what the client sends until it hangs up, and returns its close code.
func drain(conn net.Conn) (code ws.StatusCode) {
	for {
		f, err := ws.ReadFrame(conn)
		if err != nil {
			return code
		}
		if f.Header.OpCode == ws.OpClose {
			f = ws.UnmaskFrameInPlace(f)
			code, _ = ws.ParseCloseFrameData(f.Payload)
		}
	}
}

func TestMessagesMayBeFragmentedAndInterleavedWithPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pong := make(chan []byte, 1)
		o := rawServer(t, func(conn net.Conn) {
			message := append(synced(), push(1)...)
			for cut := range message {
				last := cut == len(message)-1
				op := ws.OpContinuation
				if cut == 0 {
					op = ws.OpBinary
				}
				ws.WriteFrame(conn, ws.NewFrame(op, last, message[cut:cut+1]))
				if cut == 5 {
					ws.WriteFrame(conn, ws.NewPingFrame([]byte("are you there")))
					f, err := ws.ReadFrame(conn)
					if err == nil && f.Header.OpCode == ws.OpPong {
						pong <- ws.UnmaskFrameInPlace(f).Payload
					}
				}
				ws.WriteFrame(conn, ws.NewPongFrame(nil))
			}
			drain(conn)
		})
		c, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if e := next[*MessageEvent](t, c); e.Sequence != 1 {
			t.Errorf("%+v", e)
		}
		if got := <-pong; string(got) != "are you there" {
			t.Errorf("pong %q", got)
		}
	})
}

func TestWhatBreaksTheProtocolEndsTheConnection(t *testing.T) {
	binary := func(payload []byte) []byte { return ws.MustCompileFrame(ws.NewBinaryFrame(payload)) }
	header := func(h ws.Header) []byte {
		var b bytes.Buffer
		ws.WriteHeader(&b, h)
		return b.Bytes()
	}
	for _, test := range []struct {
		name  string
		bytes []byte
		code  ws.StatusCode // that the client closes with; 0: it hangs up
		ends  error         // nil: it reconnects
	}{
		{"text", ws.MustCompileFrame(ws.NewTextFrame([]byte("hi"))), 0, nil},
		{"masked", ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(synced()))), 0, nil},
		{"reserved bit", header(ws.Header{Fin: true, Rsv: 4, OpCode: ws.OpBinary}), 0, nil},
		{"reserved opcode", header(ws.Header{Fin: true, OpCode: 5}), 0, nil},
		{"continuation of nothing", header(ws.Header{Fin: true, OpCode: ws.OpContinuation}), 0, nil},
		{"message too long", header(ws.Header{Fin: true, OpCode: ws.OpBinary, Length: wire.ServerMessageBytesMax + 1}), 0, nil},
		{"malformed frame", binary([]byte{byte(wire.TypeSent), 2, 0x80, 0x00}), ws.StatusCode(wire.CodeMalformed.CloseCode()), nil},
		{"truncated frame", binary([]byte{byte(wire.TypeSent), 20, 1}), ws.StatusCode(wire.CodeMalformed.CloseCode()), nil},
		{"a client's frame", binary(wire.AppendTyping(wire.AppendPing(nil), &wire.Typing{Ref: toBob})), ws.StatusCode(wire.CodeMalformed.CloseCode()), nil},
		{"second welcome", binary(wire.AppendWelcome(nil, &wire.Welcome{User: 1, Device: 1})), ws.StatusCode(wire.CodeMalformed.CloseCode()), nil},
		{"another answer than asked for", binary(wire.AppendUserList(nil, &wire.UserList{Correlation: 1})), ws.StatusCode(wire.CodeMalformed.CloseCode()), nil},
		{"unknown odd type", binary([]byte{0x7f, 0}), ws.StatusCode(wire.CodeUnknownFrame.CloseCode()), ErrOutdated},
		{"close of unsupported data", ws.MustCompileFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(1003, ""))), ws.StatusNormalClosure, ErrProtocol},
	} {
		synctest.Test(t, func(t *testing.T) {
			first := true
			codes := make(chan ws.StatusCode, 1)
			o := rawServer(t, func(conn net.Conn) {
				if first {
					first = false
					conn.Write(test.bytes)
					codes <- drain(conn)
					return
				}
				ws.WriteFrame(conn, ws.NewBinaryFrame(synced()))
				drain(conn)
			})
			c, err := Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if test.ends != nil {
				if e := until(t, c, Closed); !errors.Is(e.Err, test.ends) {
					t.Errorf("%s: %v", test.name, e.Err)
				}
			} else {
				if e := until(t, c, Offline); !errors.Is(e.Err, ErrProtocol) {
					t.Errorf("%s: %v", test.name, e.Err)
				}
				until(t, c, Live)
			}
			if code := <-codes; code != test.code {
				t.Errorf("%s: the client closed with %d", test.name, code)
			}
		})
	}
}

func TestUnknownEvenFramesAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := rawServer(t, func(conn net.Conn) {
			message := append(synced(), 0x7e, 3, 1, 2, 3)
			ws.WriteFrame(conn, ws.NewBinaryFrame(append(message, push(1)...)))
			drain(conn)
		})
		c, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if e := next[*MessageEvent](t, c); e.Sequence != 1 {
			t.Errorf("%+v", e)
		}
	})
}

// A gap is asked for once, as small as it is.
func TestAGapIsFilledByOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan wire.History, 10)
		o := rawServer(t, func(conn net.Conn) {
			message := append(synced(), push(1)...)
			for _, sequence := range []uint64{5, 6, 6, 5, 7} {
				message = append(message, push(sequence)...)
			}
			ws.WriteFrame(conn, ws.NewBinaryFrame(message))
			for {
				f, err := ws.ReadFrame(conn)
				if err != nil || f.Header.OpCode != ws.OpBinary {
					return
				}
				rest := ws.UnmaskFrameInPlace(f).Payload
				for len(rest) > 0 {
					var frame wire.Frame
					if frame, rest, err = wire.NextFrame(rest); err != nil || frame.Type != wire.TypeHistory {
						continue
					}
					h, _ := wire.ParseHistory(frame)
					asked <- h
					page := wire.Page{Correlation: h.Correlation, Ref: h.Ref, Head: 7}
					for s := h.Sequence + 1; s <= h.Sequence+h.Limit; s++ {
						page.Messages = append(page.Messages, wire.PageMessage{Sequence: s, Revision: s, Content: wire.Text("m")})
					}
					ws.WriteFrame(conn, ws.NewBinaryFrame(wire.AppendPage(nil, &page)))
				}
			}
		})
		c, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for want := uint64(1); want <= 7; want++ {
			if e := next[*MessageEvent](t, c); e.Sequence != want {
				t.Fatalf("%d, want %d", e.Sequence, want)
			}
		}
		h := <-asked
		if h.Sequence != 1 || h.Limit != 3 || h.Mode != wire.HistoryForward || len(asked) != 0 {
			t.Errorf("asked for %+v and %d more", h, len(asked))
		}
	})
}

func TestServersThatAreNoParley(t *testing.T) {
	for _, test := range []struct {
		name, response string
		refused        bool // for good; else the client tries again
	}{
		{"not found", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", true},
		{"busy", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false},
		{"too many requests", "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", false},
		{"nonsense", "SSH-2.0-OpenSSH_9.0\r\n\r\n", false},
		{"another protocol", "", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			o := Options{Address: "ws://server.test", Token: func(context.Context) (string, error) { return "token", nil }, Seed: 5}
			o.Dial = func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				tries++
				go func() {
					defer theirs.Close()
					if test.response == "" {
						ws.Upgrader{}.Upgrade(theirs)
						return
					}
					if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
						theirs.Write([]byte(test.response))
					}
				}()
				return ours, nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := Open(ctx, o)
			if test.refused && (!errors.Is(err, ErrRefused) || tries != 1) {
				t.Errorf("%s: %v after %d tries", test.name, err, tries)
			}
			if !test.refused && (!errors.Is(err, context.DeadlineExceeded) || tries < 3) {
				t.Errorf("%s: %v after %d tries", test.name, err, tries)
			}
		})
	}
}

func TestAServerThatHangsAtAnyMomentIsLeft(t *testing.T) {
	for _, moment := range []string{"connect", "upgrade", "welcome"} {
		synctest.Test(t, func(t *testing.T) {
			o := Options{Address: "ws://server.test", Token: func(context.Context) (string, error) { return "token", nil }, Seed: 5}
			tries := 0
			o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				tries++
				if moment == "connect" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				ours, theirs := net.Pipe()
				go func() {
					defer theirs.Close()
					if moment == "welcome" {
						upgrader := ws.Upgrader{Protocol: func([]byte) bool { return true }}
						upgrader.Upgrade(theirs)
					}
					drain(theirs)
				}()
				return ours, nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			if _, err := Open(ctx, o); !errors.Is(err, context.DeadlineExceeded) || tries < 3 {
				t.Errorf("%s: %v after %d tries", moment, err, tries)
			}
		})
	}
}

// certificate makes one for a name, and the pool that trusts it.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLSIsVerifiedAndUsed(t *testing.T) {
	for _, test := range []struct {
		name, address string
		ok            bool
	}{
		{"the right name", "wss://server.test", true},
		{"another name", "wss://other.test", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			cert, pool := certificate(t, "server.test")
			n := newNetwork(t)
			o := n.options()
			o.Address, o.TLS = test.address, &tls.Config{RootCAs: pool}
			o.Dial = terminate(t, cert, o.Dial)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c, err := Open(ctx, o)
			var wrongName x509.HostnameError
			switch {
			case test.ok && err != nil:
				t.Errorf("%s: %v", test.name, err)
			case test.ok:
				if _, err := c.Send(ctx, toBob, wire.Text("secret")); err != nil {
					t.Error(err)
				}
				c.Close()
			case !errors.As(err, &wrongName):
				t.Errorf("%s: %v", test.name, err)
			}
		})
	}
}

// terminate puts a TLS terminator in front of the server that plain dials.
func terminate(t *testing.T, cert tls.Certificate, plain func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.HasSuffix(address, ":443") {
			t.Errorf("dialed %s", address)
		}
		inner, err := plain(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ours, theirs := net.Pipe()
		go func() {
			secure := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{cert}})
			go copyAll(inner, secure)
			copyAll(secure, inner)
		}()
		return ours, nil
	}
}

func copyAll(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		if _, werr := to.Write(buffer[:n]); err != nil || werr != nil {
			return
		}
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"ws://a.test":              "a.test:80 ws://a.test/v1/socket",
		"ws://a.test/":             "a.test:80 ws://a.test/v1/socket",
		"wss://a.test":             "a.test:443 wss://a.test/v1/socket",
		"ws://127.0.0.1:7000/chat": "127.0.0.1:7000 ws://127.0.0.1:7000/chat",
		"ws://[::1]:9":             "[::1]:9 ws://[::1]:9/v1/socket",
		"http://a.test":            "",
		"a.test:80":                "",
		"ws://":                    "",
		"ws://user:secret@a.test":  "",
		"ws://a.test#part":         "",
		"ws://a.test:port":         "",
		"":                         "",
	} {
		a, err := parseAddress(text)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%s %v", a.dial, a.url)
		} else if !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", text, err)
		}
		if got != want {
			t.Errorf("%q: %q, want %q (%v)", text, got, want, err)
		}
	}
}
