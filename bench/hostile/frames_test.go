//go:build linux

package hostile

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"parley/wire"
	"parley/wire/wiretest"
)

// An invalidVector is a message of invalid.json, which a receiver must refuse.
type invalidVector struct {
	Name      string    `json:"name"`
	Direction string    `json:"direction"`
	Frame     string    `json:"frame"`
	Code      wire.Code `json:"code"`
	Bytes     string    `json:"bytes"`
}

func invalidVectors(t *testing.T) []invalidVector {
	t.Helper()
	b, err := os.ReadFile("../../wire/testdata/vectors/invalid.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []invalidVector `json:"vectors"`
	}
	if err := json.Unmarshal(b, &file); err != nil || len(file.Vectors) < 50 {
		t.Fatalf("%d vectors, %v", len(file.Vectors), err)
	}
	return file.Vectors
}

func TestEveryInvalidVectorGetsItsCode(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	for _, v := range invalidVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			frames, err := hex.DecodeString(v.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			w.during(t, func() {
				code := v.Code
				if v.Direction == "server" {
					code = wire.CodeMalformed // whatever is wrong with it: it is not a client's to send
				}
				if v.Frame == "HELLO" {
					c := s.dial(t)
					c.send(frames)
					c.wantRefusal(t, code)
					return
				}
				for _, c := range []*client{s.hello(t, "mallory"), s.live(t, "mallory")} {
					c.send(frames)
					c.wantRefusal(t, code)
				}
			})
		})
	}
}

func TestWebSocketRulesAreKept(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	s.user(t, "mallory")
	ping := wire.AppendPing(nil)
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	for _, test := range []struct {
		name  string
		bytes []byte
		close uint16
	}{
		{"text", wiretest.Message(wiretest.Text, []byte("hello")), 1003},
		{"no mask", []byte{wiretest.Binary, 2, ping[0], ping[1]}, 1002},
		{"reserved bit 1, permessage-deflate", wiretest.Message(0xC2, ping), 1002},
		{"reserved bit 2", wiretest.Message(0xA2, ping), 1002},
		{"reserved bit 3", wiretest.Message(0x92, ping), 1002},
		{"reserved opcode 3", wiretest.Message(0x83, ping), 1002},
		{"reserved control opcode 11", wiretest.Message(0x8B, nil), 1002},
		{"continuation of nothing", wiretest.Message(0x80, ping), 1002},
		{"second message inside a fragmented one", join(wiretest.Message(0x02, ping[:1]), wiretest.Message(wiretest.Binary, ping)), 1002},
		{"fragmented ping", wiretest.Message(0x09, nil), 1002},
		{"ping of 126 bytes", wiretest.Message(wiretest.Ping, make([]byte, 126)), 1002},
		{"length in two bytes that fits one", append([]byte{wiretest.Binary, 0x80 | 126, 0, 2, 0, 0, 0, 0}, ping...), 1002},
		{"length in eight bytes that fits two", append([]byte{wiretest.Binary, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0}, ping...), 1002},
		{"length of 2^63", []byte{wiretest.Binary, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 1002},
		{"length of 2^64-1", []byte{wiretest.Binary, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, 1002},
		{"length of 2^63-1", []byte{wiretest.Binary, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, 1009},
		{"one byte too long, judged by its header", wiretest.Message(wiretest.Binary, make([]byte, wire.MessageBytesMax+1))[:14], 1009},
		{"too long in fragments", join(wiretest.Message(0x02, make([]byte, wire.MessageBytesMax)), wiretest.Message(0x80, []byte{0})), 1009},
		{"close of one byte", wiretest.Message(wiretest.Close, []byte{3}), 1002},
		{"close code 1005", wiretest.Message(wiretest.Close, []byte{0x03, 0xed}), 1002},
		{"close code 999", wiretest.Message(wiretest.Close, []byte{0x03, 0xe7}), 1002},
		{"close code 65535", wiretest.Message(wiretest.Close, []byte{0xff, 0xff}), 1002},
		{"close reason that is not UTF-8", wiretest.Message(wiretest.Close, []byte{0x03, 0xe8, 0xff, 0xfe}), 1007},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.during(t, func() {
				for _, c := range []*client{s.dial(t), s.live(t, "mallory")} {
					c.write(test.bytes)
					c.wantClose(t, test.close)
				}
			})
		})
	}
}

// What is odd but allowed must not be refused.
func TestOddButAllowedFramesAreServed(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	s.user(t, "mallory")
	w := s.witness(t)
	ping := wire.AppendPing(nil)
	w.during(t, func() {
		c := s.live(t, "mallory")
		c.send(nil) // a message of no frames
		c.write(bytes.Join([][]byte{wiretest.Message(0x02, ping[:1]), wiretest.Message(wiretest.Ping, []byte("between")), wiretest.Message(0x00, nil), wiretest.Message(0x80, ping[1:])}, nil))
		c.want(t, wire.TypePong)
		c.send([]byte{122, 0, 0x80 | 120, 3, 2, 9, 0}) // even types may be skipped, with whatever is in them
		for _, b := range wiretest.Message(wiretest.Binary, ping) {
			c.write([]byte{b})
		}
		c.want(t, wire.TypePong)
		c.settled(t)
	})
}

func TestAnythingBeforeHelloIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	ref := wire.DirectRef(w.will.user)
	for name, frames := range map[string][]byte{
		"PING":   wire.AppendPing(nil),
		"SEND":   wire.AppendSend(nil, &wire.Send{Correlation: 1, Ref: ref, Counter: 1, Content: wire.Text("let me in")}),
		"SYNC":   wire.AppendSync(nil, &wire.Sync{Correlation: 1}),
		"CURSOR": wire.AppendCursor(nil, &wire.Cursor{Ref: ref, Position: 1}),
		"PONG":   wire.AppendPong(nil),
		"even":   {122, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w.during(t, func() {
				c := s.dial(t)
				c.send(frames)
				c.wantRefusal(t, wire.CodeUnauthenticated)
			})
		})
	}
}

// A connection may break at every byte of a message, and a client may think that a part of a frame is a message:
// nothing of either is done.
func TestTruncatedMessagesAreNeverActedOn(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	mallory := s.user(t, "mallory")
	ref := wire.DirectRef(s.user(t, "peer"))
	good := wire.AppendSend(nil, &wire.Send{Correlation: 1, Ref: ref, Counter: 1, Content: wire.Text("a message that is not all there")})
	whole := wiretest.Message(wiretest.Binary, good)
	w.during(t, func() {
		for cut := 1; cut < len(good); cut++ {
			c := s.hello(t, "mallory")
			c.send(good[:cut])
			c.wantRefusal(t, wire.CodeMalformed)
			c.Close()
		}
		for cut := 1; cut < len(whole); cut++ {
			c := s.hello(t, "mallory")
			c.write(whole[:cut])
			tcp := c.Conn.(*net.TCPConn)
			if cut%2 == 0 { // a reset instead of an end
				tcp.SetLinger(0)
				tcp.Close()
				continue
			}
			tcp.CloseWrite()
			if f, err := c.Next(); !gone(err) {
				t.Fatalf("cut after %d bytes: %v, %v", cut, f.Type, err)
			}
			tcp.Close()
		}
	})
	c, p := s.live(t, "mallory"), s.live(t, "peer")
	if got := c.say(t, ref, 1, "all there"); got != 1 {
		t.Errorf("sequence %d: a part was taken for a message", got)
	}
	if texts, err := p.history(wire.DirectRef(mallory), 0); err != nil || len(texts) != 1 {
		t.Errorf("%q, %v", texts, err)
	}
}

// Random damage to good traffic: whatever comes of it, the server answers or closes, and serves others.
func TestDamagedTrafficHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	w := s.witness(t)
	mallory := s.user(t, "mallory")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	ref := wire.DirectRef(mallory) // to itself, so that nobody's messages change
	var good []byte
	for i := range uint64(4) {
		good = wire.AppendSend(good, &wire.Send{Correlation: i + 1, Ref: ref, Counter: i + 1, Content: wire.Text("a message of some length")})
		good = wire.AppendCursor(good, &wire.Cursor{Ref: ref, Kind: wire.Read, Position: i})
		good = wire.AppendHistory(good, &wire.History{Correlation: 9, Ref: ref, Mode: wire.HistoryAround, Sequence: i})
		good = wire.AppendUsers(good, &wire.Users{Correlation: 7, Queries: []wire.UserQuery{{ID: mallory}}})
		good = wire.AppendResolve(good, &wire.Resolve{Correlation: 8, Names: []string{"mallory", "nobody"}})
		good = wire.AppendSync(good, &wire.Sync{Correlation: 3, Previews: 2})
	}
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	token := s.token(t, "mallory", 7, time.Hour)
	w.during(t, func() {
		for i := range rounds {
			c := s.dial(t)
			frames := wire.AppendHello(nil, &wire.Hello{Version: wire.Version, OutboxEpoch: 1, Credential: token})
			frames = append(frames, good...)
			bytes := wiretest.Message(wiretest.Binary, frames)
			damage(r, bytes, i)
			c.write(bytes)
			c.Conn.(*net.TCPConn).CloseWrite()
			for {
				if _, err := c.Next(); err != nil {
					if !gone(err) {
						t.Fatalf("round %d: neither served nor closed: %v", i, err)
					}
					break
				}
			}
			c.Close()
		}
	})
}

// damage flips bits, or overwrites a stretch with noise.
func damage(r *rand.Rand, b []byte, round int) {
	if round%3 == 0 {
		at := r.IntN(len(b))
		for i := range min(16, len(b)-at) {
			b[at+i] = byte(r.Uint32())
		}
		return
	}
	for range 1 + r.IntN(4) {
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	}
}
