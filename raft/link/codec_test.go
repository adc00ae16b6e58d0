package link

import (
	"bytes"
	"reflect"
	"testing"

	hraft "github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// drawBytes gives nil rather than an empty slice: on the wire they are the same.
func drawBytes(r *rapid.T, label string) []byte {
	if b := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(r, label); len(b) > 0 {
		return b
	}
	return nil
}

func drawAppend(r *rapid.T) *hraft.AppendEntriesRequest {
	a := &hraft.AppendEntriesRequest{
		RPCHeader: hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersion(rapid.IntRange(0, 3).Draw(r, "version"))},
		Term:      rapid.Uint64().Draw(r, "term"), PrevLogEntry: rapid.Uint64().Draw(r, "prev"),
		PrevLogTerm: rapid.Uint64().Draw(r, "prev term"), LeaderCommitIndex: rapid.Uint64().Draw(r, "commit"),
	}
	next := a.PrevLogEntry + 1
	for range rapid.IntRange(0, 20).Draw(r, "entries") {
		e := &hraft.Log{Index: next, Term: a.Term, Type: hraft.LogType(rapid.IntRange(0, 5).Draw(r, "type")),
			Data: drawBytes(r, "data"), Extensions: drawBytes(r, "extensions")}
		if rapid.Bool().Draw(r, "gap") {
			e.Index = rapid.Uint64().Draw(r, "index")
		}
		if rapid.Bool().Draw(r, "other term") {
			e.Term = rapid.Uint64().Draw(r, "entry term")
		}
		next = e.Index + 1
		a.Entries = append(a.Entries, e)
	}
	return a
}

func TestAppendEntriesSurviveTheCodec(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		a := drawAppend(r)
		var got hraft.AppendEntriesRequest
		if err := parseAppend(&decoder{b: appendAppend(nil, a)}, len(a.Entries) > 0, &got); err != nil || !reflect.DeepEqual(&got, a) {
			r.Fatalf("%+v, %v, want %+v", got, err, a)
		}
	})
}

func TestOtherMessagesSurviveTheCodec(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := func(label string) uint64 { return rapid.Uint64().Draw(r, label) }
		yes := rapid.Bool().Draw(r, "yes")
		header := hraft.RPCHeader{ProtocolVersion: 3}
		check := func(got, want any, err error) {
			r.Helper()
			if err != nil || !reflect.DeepEqual(got, want) {
				r.Fatalf("%+v, %v, want %+v", got, err, want)
			}
		}
		appended := hraft.AppendEntriesResponse{Term: n("term"), LastLog: n("last"), Success: yes, NoRetryBackoff: rapid.Bool().Draw(r, "retry")}
		var gotAppended hraft.AppendEntriesResponse
		check(&gotAppended, &appended, parseAppended(&decoder{b: appendAppended(nil, &appended)}, &gotAppended))
		vote := hraft.RequestVoteRequest{RPCHeader: header, Term: n("term"), LastLogIndex: n("last"), LastLogTerm: n("last term"), LeadershipTransfer: yes}
		var gotVote hraft.RequestVoteRequest
		check(&gotVote, &vote, parseVote(&decoder{b: appendVote(nil, &vote)}, &gotVote))
		preVote := hraft.RequestPreVoteRequest{RPCHeader: header, Term: n("term"), LastLogIndex: n("last"), LastLogTerm: n("last term")}
		var gotPreVote hraft.RequestPreVoteRequest
		check(&gotPreVote, &preVote, parsePreVote(&decoder{b: appendPreVote(nil, &preVote)}, &gotPreVote))
		install := hraft.InstallSnapshotRequest{RPCHeader: header, SnapshotVersion: 1, Term: n("term"), LastLogIndex: n("last"), LastLogTerm: n("last term"),
			Configuration: drawBytes(r, "configuration"), ConfigurationIndex: n("index"), Size: int64(n("size") >> 2)}
		var gotInstall hraft.InstallSnapshotRequest
		check(&gotInstall, &install, parseInstall(&decoder{b: appendInstall(nil, &install)}, &gotInstall))
		term := n("term")
		gotTerm, gotYes, err := parseTermAnswer(&decoder{b: appendTermAnswer(nil, term, yes)}, frameVoted)
		check([2]any{gotTerm, gotYes}, [2]any{term, yes}, err)
		hi := hello{1, 2, 3, n("cluster"), 4, 5, n("incarnation"), n("epoch")}
		gotHi, err := parseHello(appendHello(nil, &hi))
		check(gotHi, hi, err)
		w := welcome{1, statusWelcome, n("cluster"), 7, n("incarnation"), n("epoch"), "a reason"}
		gotWelcome, err := readWelcome(bytes.NewReader(appendWelcome(nil, &w)))
		check(gotWelcome, w, err)
	})
}

func TestAPackedMessageCostsFewBytesMoreThanItsEntries(t *testing.T) {
	a := entriesOf(1<<20, 4)
	a.Term, a.PrevLogTerm, a.LeaderCommitIndex = 9, 9, 1<<20
	for _, e := range a.Entries {
		e.Term, e.Data = 9, make([]byte, 1000)
	}
	if n := len(appendAppend(nil, a)) - 4*1000; n > 24 {
		t.Errorf("%d bytes more than the entries", n)
	}
}

func TestEntriesShareTheMemoryOfTheirFrame(t *testing.T) {
	b := appendAppend(nil, entriesOf(1, 2))
	var a hraft.AppendEntriesRequest
	if err := parseAppend(&decoder{b: b}, true, &a); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = parseAppend(&decoder{b: b}, true, &a) }); n > 3 {
		t.Errorf("%v allocations to parse two entries", n)
	}
	if cap(a.Entries[0].Data) != len(a.Entries[0].Data) {
		t.Error("an append to an entry's data would write over the next entry")
	}
}
