package link

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"runtime"
	"testing"

	hraft "github.com/hashicorp/raft"
)

// seeds are one good frame of each kind.
func seeds() [][]byte {
	route := frame(frameRoute, appendRoute(uvarints(0), routeKey{5, "n2", "n1"})...)
	with := func(kind frameKind, body []byte) []byte { return frame(kind, append(uvarints(3, 0), body...)...) }
	return [][]byte{
		frame(framePing, uvarints(1<<40, 7)...), route,
		append(route, with(frameAppend, appendAppend([]byte{0}, entriesOf(4, 3)))...),
		append(route, with(frameAppendEmpty, appendAppend([]byte{flagLazy}, heartbeatOf(3)))...),
		append(route, with(frameVote, appendVote(nil, &hraft.RequestVoteRequest{Term: 3}))...),
		append(route, with(framePreVote, appendPreVote(nil, &hraft.RequestPreVoteRequest{Term: 3}))...),
		append(route, with(frameTimeoutNow, uvarints(3))...),
		frame(frameMessage, 1, 'h', 'i'), frame(frameCall, 9, 1, 'h', 'i'),
		frame(framePong, uvarints(0, 7)...),
		frame(frameAppended, appendAppended(uvarints(1), &hraft.AppendEntriesResponse{Term: 3, Success: true})...),
		frame(frameVoted, appendTermAnswer(uvarints(2), 3, true)...),
		frame(frameAnswer, append(uvarints(3), "answer"...)...),
		frame(frameFailure, appendFailure(uvarints(3), &RemoteError{17, "moved"})...),
		frame(frameRefused, appendBytes(uvarints(1), "busy")...),
	}
}

// quietHub is a hub that does nothing by itself.
func quietHub(t testing.TB) *Hub {
	h, err := Open(Options{Self: 1, Cluster: 7, NodeOf: testNodeOf, Address: func(uint32) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	h.Handle(1, func(uint32, []byte) {})
	h.HandleCall(1, echo)
	return h
}

// FuzzInbound feeds what a peer may send to all parsers of the accepting side.
func FuzzInbound(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	h := quietHub(f)
	x, err := h.Network().Transport(5, "n1")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { x.Close() })
	replica := x.(*transport)
	replica.term.Store(3)
	replica.SetHeartbeatHandler(func(rpc hraft.RPC) { rpc.Respond(accept(nil)) })
	f.Cleanup(answering(replica, accept))
	f.Fuzz(func(t *testing.T, sent []byte) {
		w := newWorld(t, false)
		s := newStream(w.discard(), &h.total)
		s.in = bufio.NewReader(bytes.NewReader(sent))
		in := &inbound{hub: h, node: 2, stream: s, out: newOutbox(s, &h.total), count: &h.total,
			ctx: context.Background(), beating: make(chan hraft.RPCResponse, 1)}
		if err := in.read(); err == nil {
			t.Error("reading ended without an error")
		}
		if n := in.out.queued(); n > 100*len(sent)+1000 || cap(in.routes) > len(sent)+8 {
			t.Errorf("%d bytes made %d bytes of answers and %d routes", len(sent), n, cap(in.routes))
		}
	})
}

// FuzzAnswers feeds what a peer may send to all parsers of the dialling side.
func FuzzAnswers(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	h := quietHub(f)
	f.Fuzz(func(t *testing.T, sent []byte) {
		w := newWorld(t, false)
		p := newPeer(h, 2, h.presence(2))
		defer p.cancel()
		s := newStream(w.discard(), &p.count)
		s.in = bufio.NewReader(bytes.NewReader(sent))
		l := newLink(p, s)
		pipe := &pipeline{transport: &transport{hub: h, ctx: h.ctx}, slots: make(chan struct{}, AppendsInFlightMax),
			done: make(chan hraft.AppendFuture, doneMax), ended: make(chan struct{})}
		pipe.slots <- struct{}{}
		vote := &rpc{kind: frameVoted, done: make(chan error, 1), parse: func(d *decoder) error {
			_, _, err := parseTermAnswer(d, frameVoted)
			return err
		}}
		question := &call{done: make(chan struct{})}
		for _, w := range []waiter{&appendFuture{pipeline: pipe, args: entriesOf(1, 1), resp: &hraft.AppendEntriesResponse{}}, vote, question} {
			if _, err := l.register(w, w == waiter(question)); err != nil {
				t.Fatal(err)
			}
		}
		l.fail(l.read())
		<-vote.done // each is answered or failed, once
		<-question.done
		if len(pipe.slots) > 0 {
			t.Error("a message of a pipeline is still waited for")
		}
	})
}

// FuzzPreamble feeds both sides' first bytes.
func FuzzPreamble(f *testing.F) {
	hi := goodHello()
	f.Add(appendHello(nil, &hi))
	f.Add(appendWelcome(nil, &welcome{version: 1, status: statusCluster, reason: "another cluster"}))
	f.Fuzz(func(t *testing.T, sent []byte) {
		if h, err := parseHello(sent); err == nil && sent[7] == 0 && !bytes.Equal(appendHello(nil, &h), sent) {
			t.Errorf("%+v is not %x", h, sent)
		}
		r := bytes.NewReader(sent)
		w, err := readWelcome(r)
		if err == nil && !bytes.HasPrefix(sent, appendWelcome(nil, &w)) {
			t.Errorf("%+v is not %x", w, sent)
		}
	})
}

// FuzzRequest feeds what comes first on connections for a snapshot.
func FuzzRequest(f *testing.F) {
	_, request := snapshotOf(10)
	f.Add(appendInstall(appendRoute(nil, routeKey{5, "n2", "n1"}), request))
	f.Fuzz(func(t *testing.T, sent []byte) {
		d := &decoder{b: sent}
		key, err := parseRoute(d, frameRequest)
		if err != nil {
			return
		}
		var r hraft.InstallSnapshotRequest
		if err := parseInstall(d, &r); err != nil {
			return
		}
		if r.Size < 0 || len(key.source) > serverBytesMax || len(r.Configuration) > len(sent) {
			t.Errorf("%+v of %+v", r, key)
		}
	})
}

// FuzzAppend wants whatever is parsed to be encoded to something that is parsed alike.
func FuzzAppend(f *testing.F) {
	f.Add(appendAppend(nil, entriesOf(4, 3)))
	f.Fuzz(func(t *testing.T, sent []byte) {
		var a, b hraft.AppendEntriesRequest
		if parseAppend(&decoder{b: sent}, true, &a) != nil {
			return
		}
		again := appendAppend(nil, &a)
		if err := parseAppend(&decoder{b: again}, true, &b); err != nil {
			t.Fatalf("%x became %x: %v", sent, again, err)
		}
		for i, e := range a.Entries {
			if o := b.Entries[i]; o.Index != e.Index || o.Term != e.Term || o.Type != e.Type || !bytes.Equal(o.Data, e.Data) || !bytes.Equal(o.Extensions, e.Extensions) {
				t.Errorf("entry %d: %+v, %+v", i, e, o)
			}
		}
	})
}

func TestAFrameReaderBelievesALengthOnlyAsFarAsBytesCome(t *testing.T) {
	b := frame(frameAppend, make([]byte, 3*bodyStep)...)
	r := &frameReader{in: bufio.NewReader(io.LimitReader(bytes.NewReader(b), headerBytes+10))}
	if _, _, err := r.next(); err != io.ErrUnexpectedEOF {
		t.Errorf("half a frame: %v", err)
	}
	var before, after runtime.MemStats
	r = &frameReader{in: bufio.NewReader(bytes.NewReader(nil))}
	runtime.ReadMemStats(&before)
	_, err := r.body(FrameBytesMax, true)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; err == nil || n > 2*bodyStep {
		t.Errorf("%d bytes were set aside for a length, %v", n, err)
	}
	r = &frameReader{in: bufio.NewReader(bytes.NewReader(b))}
	if kind, body, err := r.next(); kind != frameAppend || len(body) != 3*bodyStep || err != nil {
		t.Errorf("a whole frame: kind %d, %d bytes, %v", kind, len(body), err)
	}
}
