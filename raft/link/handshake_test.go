package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stranger opens a connection to a hub as somebody who is no hub.
func (w *world) stranger(to uint32) net.Conn {
	w.t.Helper()
	address, _ := w.address(to)
	c, err := w.dial(w.t.Context(), 99, address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// greeted is a stranger that says a hello and gets its answer.
func (w *world) greeted(to uint32, hi hello) (net.Conn, welcome, error) {
	w.t.Helper()
	c := w.stranger(to)
	if _, err := c.Write(appendHello(nil, &hi)); err != nil {
		w.t.Fatal(err)
	}
	answer, err := readWelcome(c)
	return c, answer, err
}

// goodHello is one that hub 1 of the world accepts as node 2's.
func goodHello() hello {
	return hello{version: Version, oldest: versionOldest, purpose: purposeLink, cluster: 7, from: 2, to: 1, incarnation: 5}
}

func TestHellosThatDoNotFitAreRefusedWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		o := w.options(1)
		o.Admit = func(node uint32) error {
			if node == 4 {
				return errors.New("node 4 was removed at epoch 12")
			}
			return nil
		}
		h := w.open(o)
		refusals := uint64(0)
		for _, c := range []struct {
			change func(*hello)
			status status
			reason string
		}{
			{func(h *hello) { h.version, h.oldest = 9, 8 }, statusVersion, "speaks 1 to 1, the other 8 to 9"},
			{func(h *hello) { h.version = 0 }, statusVersion, "no version in common"},
			{func(h *hello) { h.cluster = 8 }, statusCluster, "this is cluster 0000000000000007, not 0000000000000008"},
			{func(h *hello) { h.to = 3 }, statusReceiver, "this is node 1, not 3"},
			{func(h *hello) { h.to = 0 }, statusReceiver, "this is node 1, not 0"},
			{func(h *hello) { h.from = 1 }, statusSender, "node 1 cannot connect to node 1"},
			{func(h *hello) { h.from = 0 }, statusSender, "node 0 cannot connect"},
			{func(h *hello) { h.from = 4 }, statusSender, "node 4 was removed at epoch 12"},
			{func(h *hello) { h.purpose = 9 }, statusPurpose, "purpose 9"},
			{func(h *hello) { h.purpose = purposeJoin }, statusPurpose, "takes no joins"},
			{func(h *hello) { h.purpose, h.cluster = purposeJoin, 8 }, statusCluster, "not 0000000000000008"},
		} {
			hi := goodHello()
			c.change(&hi)
			conn, answer, err := w.greeted(1, hi)
			if answer.status != c.status || !errors.Is(err, ErrRefused) || !strings.Contains(answer.reason, c.reason) {
				t.Errorf("%+v: %+v, %v", hi, answer, err)
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("%+v: not closed", hi)
			}
			refusals++
		}
		synctest.Wait()
		if got := h.Stats().Refusals; got != refusals {
			t.Errorf("%d refusals were counted, want %d", got, refusals)
		}
		// A newer peer that still knows this version is welcome.
		hi := goodHello()
		hi.version = Version + 1
		if _, answer, err := w.greeted(1, hi); err != nil || answer.version != Version {
			t.Errorf("a newer peer: %+v, %v", answer, err)
		}
	})
}

func TestStrangersAreClosedAndComplainedAboutOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		var log logLines
		o := w.options(1)
		o.Logger = log.logger()
		h := w.open(o)
		for range 3 {
			c := w.stranger(1)
			fmt.Fprint(c, "GET ")
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("a web client: %v", err)
			}
		}
		c := w.stranger(1)
		hi := goodHello()
		c.Write(appendHello(nil, &hi)[:20])
		if _, err := c.Read(make([]byte, 1)); err != io.EOF { // after handshakeTimeout, in the bubble's time
			t.Errorf("half a hello: %v", err)
		}
		synctest.Wait()
		if n := log.count("it begins with"); n != 1 {
			t.Errorf("%d lines about the same", n)
		}
		if n := h.Stats().Refusals; n != 4 {
			t.Errorf("%d refusals", n)
		}
	})
}

func TestOnlySoManyMayDelayTheirHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		w.hub(1)
		var waiting []net.Conn
		for range handshakesMax {
			waiting = append(waiting, w.stranger(1))
		}
		synctest.Wait()
		if _, err := w.stranger(1).Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("one too many: %v", err)
		}
		for _, c := range waiting {
			c.Close()
		}
		synctest.Wait()
		if _, _, err := w.greeted(1, goodHello()); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestASecondProcessWithTheSameNumberIsRefusedWhileTheFirstLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		w.hub(1)
		first, _, err := w.greeted(1, goodHello())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		twin := goodHello()
		twin.incarnation++
		if _, answer, err := w.greeted(1, twin); answer.status != statusDuplicate || !strings.Contains(answer.reason, "two processes") {
			t.Errorf("a twin: %+v, %v", answer, err)
		}
		// The same process may open another connection: the first ends.
		again, _, err := w.greeted(1, goodHello())
		if err != nil {
			t.Errorf("again: %v", err)
		}
		if _, err := first.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the first: %v", err)
		}
		// A process that was started anew on a machine that died is welcome when the old one is silent.
		time.Sleep(SilentAfter)
		if _, _, err := w.greeted(1, twin); err != nil {
			t.Errorf("after silence: %v", err)
		}
		if _, err := again.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the second: %v", err)
		}
	})
}

func TestANodeThatIsNoMemberAnyMoreLearnsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		var removed atomic.Bool
		member := w.options(1)
		member.Admit = func(node uint32) error {
			if removed.Load() {
				return fmt.Errorf("node %d was removed", node)
			}
			return nil
		}
		w.open(member).Connect([]uint32{2})
		told := make(chan error, 100)
		other := w.options(2)
		other.OnNotMember = func(err error) { told <- err }
		h := w.open(other)
		h.Connect([]uint32{1})
		time.Sleep(time.Second)
		if len(told) > 0 {
			t.Fatalf("a member is told: %v", <-told)
		}
		h.Close()
		removed.Store(true)
		other = w.options(2) // it starts again
		other.OnNotMember = func(err error) { told <- err }
		w.open(other).Connect([]uint32{1})
		if err := <-told; !errors.Is(err, ErrNotMember) || !strings.Contains(err.Error(), "node 2 was removed") {
			t.Errorf("told: %v", err)
		}
	})
}

// The second process with a number is told, but not for a moment only, and the first never.
func TestATwinLearnsThatItIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		told := make(map[string]error)
		var mu sync.Mutex
		open := func(name string, node uint32, peers ...uint32) *Hub {
			o := w.options(node)
			o.OnTwin = func(err error) {
				mu.Lock()
				defer mu.Unlock()
				told[name] = err
			}
			h := w.open(o)
			h.Connect(peers)
			return h
		}
		open("member", 1, 2)
		original := open("original", 2, 1)
		time.Sleep(time.Second)
		open("twin", 2, 1)
		time.Sleep(twinAfter - time.Second)
		mu.Lock()
		if len(told) > 0 {
			t.Errorf("too early: %v", told)
		}
		mu.Unlock()
		time.Sleep(4 * time.Second)
		mu.Lock()
		if err := told["twin"]; !errors.Is(err, ErrTwin) || len(told) != 1 {
			t.Errorf("told: %v", told)
		}
		clear(told)
		mu.Unlock()
		// The original ends, and the other is the only one.
		original.Close()
		time.Sleep(4 * time.Second)
		mu.Lock()
		clear(told)
		mu.Unlock()
		time.Sleep(2 * twinAfter)
		mu.Lock()
		defer mu.Unlock()
		if len(told) > 0 {
			t.Errorf("afterwards: %v", told)
		}
	})
}

// frame makes a frame of a kind and a body.
func frame(kind frameKind, body ...byte) []byte {
	b, err := closeFrame(append(openFrame(nil, kind), body...), 0)
	if err != nil {
		panic(err)
	}
	return b
}

func uvarints(values ...uint64) (b []byte) {
	for _, v := range values {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func TestBadFramesCloseTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		var log logLines
		o := w.options(1)
		o.Logger = log.logger()
		h := w.open(o)
		route := func(number uint64, source, target string) []byte {
			return frame(frameRoute, appendRoute(uvarints(number), routeKey{5, source, target})...)
		}
		for what, sent := range map[string][]byte{
			"oversize":               {0xff, 0xff, 0xff, 0xff, byte(frameAppend)},
			"empty":                  {0, 0, 0, 0, 0},
			"unknown kind":           frame(99, 1, 2),
			"an answer":              frame(frameAppended, 1, 0, 1, 1),
			"kind of a transfer":     frame(frameRequest),
			"ping without epoch":     frame(framePing, 1),
			"ping with more":         frame(framePing, 1, 2, 3),
			"call without kind":      frame(frameCall, 1),
			"message without kind":   frame(frameMessage),
			"unknown route":          frame(frameVote, 1, 0, 0, 1, 1, 1, 1),
			"second route first":     route(1, "n2", "n1"),
			"another node's replica": route(0, "n3", "n1"),
			"no replica id":          route(0, "who", "n1"),
			"empty target":           route(0, "n2", ""),
			"endless varint":         frame(framePing, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		} {
			before := h.Stats().Errors
			c, _, err := w.greeted(1, goodHello())
			if err != nil {
				t.Fatal(err)
			}
			go c.Write(sent) // the other end may be closed before it has taken all
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: %v", what, err)
			}
			synctest.Wait()
			if after := h.Stats().Errors; after != before+1 || log.count("connection closed") == 0 {
				t.Errorf("%s: %d errors were counted", what, after-before)
			}
		}
		// Half a frame is an end like any other.
		c, _, err := w.greeted(1, goodHello())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte{200, 0, 0, 0, byte(frameAppend), 1, 2}); err != nil {
			t.Fatal(err)
		}
		c.Close()
		synctest.Wait()
		if h.Stats().Arrivals != 0 {
			t.Error("the connection is still there")
		}
	})
}

func TestAPeerThatAnswersNonsenseIsLeft(t *testing.T) {
	for what, sent := range map[string][]byte{
		"a question":           frame(framePing, 1, 1),
		"an answer to nothing": frame(frameAnswer, 77),
		"a future pong":        frame(framePong, uvarints(1<<50, 1)...),
		"half a pong":          frame(framePong, 1),
		"no correlation":       frame(frameAppended),
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, false)
				h := w.hub(1)
				var o Options
				w.listen(2, &o)
				h.Connect([]uint32{2})
				c, err := o.Listener.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				defer o.Listener.Close()
				if _, err := io.ReadFull(c, make([]byte, helloBytes)); err != nil {
					t.Fatal(err)
				}
				c.Write(appendWelcome(nil, &welcome{version: 1, cluster: 7, node: 2}))
				synctest.Wait()
				if !h.Up(2) {
					t.Fatal("not linked")
				}
				c.Write(sent)
				synctest.Wait()
				if h.Up(2) {
					t.Error("still linked")
				}
			})
		})
	}
}

func TestADiallerLeavesWhoIsNotThePeer(t *testing.T) {
	for what, answer := range map[string][]byte{
		"another node":    appendWelcome(nil, &welcome{version: 1, cluster: 7, node: 3}),
		"another cluster": appendWelcome(nil, &welcome{version: 1, cluster: 8, node: 2}),
		"a web server":    []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n"),
		"a long reason":   append(appendWelcome(nil, &welcome{})[:6], append([]byte{0xff, 0xff}, make([]byte, 40)...)...),
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, false)
				h := w.hub(1)
				var o Options
				w.listen(2, &o)
				h.Connect([]uint32{2})
				c, err := o.Listener.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer o.Listener.Close()
				if _, err := io.ReadFull(c, make([]byte, helloBytes)); err != nil {
					t.Fatal(err)
				}
				go c.Write(answer)
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Error(err)
				}
				if h.Up(2) {
					t.Error("linked")
				}
				c.Close()
			})
		})
	}
}
