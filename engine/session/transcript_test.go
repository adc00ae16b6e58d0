package session

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"parley/wire"
)

// update rewrites the answers in testdata: go test ./engine/session -update
var update = flag.Bool("update", false, "rewrite testdata")

// A fakeHost knows the tokens "good" and "expired", and the ticket "ticket".
type fakeHost struct{ now wire.Time }

func (h *fakeHost) Now() wire.Time       { return h.now }
func (h *fakeHost) ClusterEpoch() uint64 { return 5 }

func (h *fakeHost) Authenticate(kind wire.CredentialKind, credential []byte) (Identity, *wire.Error) {
	switch {
	case kind == wire.CredentialToken && string(credential) == "good",
		kind == wire.CredentialTicket && string(credential) == "ticket":
		return Identity{User: 7, Device: 9, Expires: 1_000_000}, nil
	case string(credential) == "expired":
		return Identity{}, &wire.Error{Code: wire.CodeTokenExpired}
	}
	return Identity{}, &wire.Error{Code: wire.CodeUnauthenticated}
}

func (h *fakeHost) AppendTicket(dst []byte, id Identity) ([]byte, uint64) {
	return append(dst, "ticket"...), 3600
}

// Each file of testdata is one session. A block of lines is one WebSocket message, a
// frame a line; the lines after ---- are the actions.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { transcript(t, file) })
	}
}

func transcript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s Session
	host := &fakeHost{}
	var rewritten bytes.Buffer
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		input, want, _ := strings.Cut(block, "\n----")
		got := run(t, &s, host, input)
		if !*update && got != strings.TrimSpace(want) {
			t.Errorf("%s\n--- got\n%s\n--- want\n%s", input, got, strings.TrimSpace(want))
		}
		fmt.Fprintf(&rewritten, "%s\n----\n%s\n\n", input, got)
	}
	if *update {
		if err := os.WriteFile(file, append(bytes.TrimSpace(rewritten.Bytes()), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, s *Session, host *fakeHost, input string) string {
	var message []byte
	var out strings.Builder
	for _, line := range strings.Split(input, "\n") {
		name, rest, _ := strings.Cut(line, " ")
		switch name {
		case "#":
			continue
		case "answered":
			s.Answered()
			continue
		case "time":
			host.now = wire.Time(number(t, rest))
			continue
		}
		message = append(message, frameOf(t, name, rest)...)
	}
	for _, a := range s.Message(message, host, nil) {
		out.WriteString(describe(t, &a) + "\n")
	}
	fmt.Fprintf(&out, "state %d reads %d", s.State, s.Reads)
	return out.String()
}

func number(t *testing.T, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// frameOf builds the frame of a line: name and key=value pairs.
func frameOf(t *testing.T, name, rest string) []byte {
	field := map[string]string{}
	for _, pair := range strings.Fields(rest) {
		k, v, _ := strings.Cut(pair, "=")
		field[k] = v
	}
	n := func(key string) uint64 {
		if field[key] == "" {
			return 0
		}
		return number(t, field[key])
	}
	ref := wire.Ref(n("ref"))
	switch name {
	case "hello":
		h := wire.Hello{Version: max(1, n("version")), HeartbeatSeconds: n("heartbeat"), OutboxEpoch: n("epoch"),
			Kind: wire.CredentialKind(n("kind")), Credential: []byte(field["credential"]), Flags: n("flags"),
			Features: n("features")}
		return wire.AppendHello(nil, &h)
	case "send":
		content := wire.Content{Bytes: []byte(strings.Repeat("x", int(n("size"))))}
		return wire.AppendSend(nil, &wire.Send{Correlation: n("correlation"), Ref: ref, Counter: n("counter"), Content: content})
	case "cursor":
		return wire.AppendCursor(nil, &wire.Cursor{Ref: ref, Position: n("position"), Kind: wire.CursorKind(n("kind"))})
	case "ping":
		return wire.AppendPing(nil)
	case "typing":
		return wire.AppendTyping(nil, &wire.Typing{Ref: ref})
	case "sync":
		return wire.AppendSync(nil, &wire.Sync{Correlation: n("correlation"), Token: []byte(field["token"])})
	case "history":
		return wire.AppendHistory(nil, &wire.History{Correlation: n("correlation"), Ref: ref, Limit: n("limit")})
	case "users":
		return wire.AppendUsers(nil, &wire.Users{Correlation: n("correlation"), Queries: []wire.UserQuery{{ID: 8}}})
	case "resolve":
		return wire.AppendResolve(nil, &wire.Resolve{Correlation: n("correlation"), Names: []string{"bob"}})
	case "group":
		event := wire.Event{Kind: wire.EventKind(n("event")), Text: field["text"]}
		for _, user := range strings.FieldsFunc(field["users"], func(r rune) bool { return r == ',' }) {
			event.Users = append(event.Users, wire.ID(number(t, user)))
		}
		return wire.AppendGroupChange(nil, &wire.GroupChange{Correlation: n("correlation"), Ref: ref, Counter: n("counter"), Event: wire.AppendEvent(nil, &event)})
	case "members":
		return wire.AppendMembers(nil, &wire.Members{Correlation: n("correlation"), Ref: ref, Limit: n("limit")})
	case "group_info":
		return wire.AppendGroupInfo(nil, &wire.GroupInfo{Correlation: n("correlation"), Ref: ref})
	case "join":
		return wire.AppendJoin(nil, &wire.Join{Correlation: n("correlation"), Ref: ref, Secret: make([]byte, wire.LinkSecretBytesMax)})
	case "own_settings":
		return wire.AppendOwnSettings(nil, &wire.OwnSettings{Correlation: n("correlation"), Ref: ref, Version: n("version"), Flags: n("flags"),
			MutedUntil: wire.Time(n("until"))})
	case "welcome":
		return wire.AppendWelcome(nil, &wire.Welcome{User: 1, Device: 1})
	case "raw":
		b, err := hex.DecodeString(rest)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	t.Fatalf("no frame %q", name)
	return nil
}

var kindNames = map[Kind]string{Reply: "reply", Greeted: "greeted", Send: "send", Cursor: "cursor", Typing: "typing",
	Sync: "sync", Read: "read", Close: "close", Change: "change", Join: "join", Ask: "ask"}

func describe(t *testing.T, a *Action) string {
	switch a.Kind {
	case Reply:
		f, rest, err := wire.NextFrame(a.Frames)
		if err != nil || len(rest) != 0 {
			t.Fatalf("reply %x: %v", a.Frames, err)
		}
		return "reply " + describeReply(t, f)
	case Send:
		return fmt.Sprintf("send correlation=%d ref=%d counter=%d size=%d", a.Send.Correlation, a.Send.Ref, a.Send.Counter, len(a.Send.Content.Bytes))
	case Change:
		return fmt.Sprintf("change correlation=%d ref=%d counter=%d event=%x", a.Change.Correlation, a.Change.Ref, a.Change.Counter, a.Change.Event)
	case Join:
		return fmt.Sprintf("join correlation=%d ref=%d secret=%x", a.Join.Correlation, a.Join.Ref, a.Join.Secret)
	case Cursor:
		return fmt.Sprintf("cursor ref=%d position=%d kind=%d", a.Cursor.Ref, a.Cursor.Position, a.Cursor.Kind)
	case Typing:
		return fmt.Sprintf("typing ref=%d", a.Ref)
	case Ask:
		return fmt.Sprintf("ask %+v", reflect.ValueOf(a.Request).Elem())
	case Sync, Read:
		return fmt.Sprintf("%s %T", kindNames[a.Kind], a.Request)
	case Close:
		return "close " + a.Code.String()
	}
	return kindNames[a.Kind]
}

func describeReply(t *testing.T, f wire.Frame) string {
	switch f.Type {
	case wire.TypeError:
		e, err := wire.ParseError(f)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("ERROR correlation=%d %v retry=%d", e.Correlation, e.Code, e.RetryAfterMS)
	case wire.TypeWelcome:
		w, err := wire.ParseWelcome(f)
		if err != nil {
			t.Fatal(err)
		}
		features := ""
		if w.Features != 0 {
			features = fmt.Sprintf(" features=%d", w.Features)
		}
		return fmt.Sprintf("WELCOME user=%d device=%d heartbeat=%d epoch=%d ticket=%s/%d%s", w.User, w.Device, w.HeartbeatSeconds, w.ClusterEpoch, w.Ticket, w.TicketSeconds, features)
	}
	return f.Type.String()
}
