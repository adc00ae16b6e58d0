package client

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/wire"
)

// update rewrites the answers in testdata: go test ./wire/client -run Transcripts -update
var update = flag.Bool("update", false, "rewrite testdata")

// Each file of testdata is one client's life. A block of lines is what happens; the lines
// after ---- are what the core does about it: actions, frames it writes (<) and events.
// Lines that begin with > are frames of one message from the server. See (*script).do for
// the others.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { transcript(t, file) })
	}
}

func transcript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := newScript(t)
	var rewritten bytes.Buffer
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		input, want, _ := strings.Cut(block, "\n----")
		got := strings.TrimSpace(s.block(input))
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

// A script drives one core.
type script struct {
	t       *testing.T
	core    *core
	options Options
	now     time.Time
	begin   time.Time
	out     strings.Builder
	message []byte
	holding bool // the consumer takes nothing
	storing bool // a write waits for the line that answers it
	manual  bool // writes are not answered by themselves
	names   map[*Pending]string
}

func newScript(t *testing.T) *script {
	begin := time.Unix(1_800_000_000, 0)
	return &script{t: t, options: Options{Address: "wss://server.test", Name: "script"}, begin: begin, now: begin, names: map[*Pending]string{}}
}

var refs = map[string]wire.Ref{"bob": wire.DirectRef(bob), "carol": wire.DirectRef(carol), "group": wire.GroupRef(50), "crew": wire.GroupRef(51)}

func refName(ref wire.Ref) string {
	for name, r := range refs {
		if r == ref {
			return name
		}
	}
	return fmt.Sprint(ref)
}

// block runs the lines of one block and tells what came of them.
func (s *script) block(input string) string {
	s.out.Reset()
	for line := range strings.SplitSeq(input, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if frame, ok := strings.CutPrefix(line, "> "); ok {
			s.message = append(s.message, s.frame(frame)...)
			continue
		}
		s.deliver()
		s.do(line)
	}
	s.deliver()
	s.perform()
	if s.out.Len() == 0 {
		return "nothing"
	}
	return s.out.String()
}

func (s *script) deliver() {
	if len(s.message) > 0 {
		s.core.received(s.now, s.message)
		s.message = nil
	}
}

func (s *script) printf(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

// fields reads key=value pairs; words without = are numbered from 0.
func fields(rest string) map[string]string {
	f := map[string]string{}
	n := 0
	for word := range strings.FieldsSeq(rest) {
		key, value, pair := strings.Cut(word, "=")
		if !pair {
			key, value = strconv.Itoa(n), word
			n++
		}
		f[key] = value
	}
	return f
}

func (s *script) number(f map[string]string, key string) uint64 {
	if f[key] == "" {
		return 0
	}
	n, err := strconv.ParseUint(f[key], 10, 64)
	if err != nil {
		return s.correlation(f[key])
	}
	return n
}

var requestNames = map[string]requestKind{"members": requestMembers, "info": requestGroup, "join": requestJoin, "sync": requestSync, "history": requestHistory, "users": requestUsers, "fetch": requestFetch, "search": requestSearch}

// correlation finds what is on the wire: a request by its kind, or a send by its text, the
// last copy of it; text.1 is the first copy that has no answer.
func (s *script) correlation(name string) uint64 {
	var found []uint64
	for correlation, r := range s.core.flying {
		if kind, ok := requestNames[name]; ok && r.kind == kind {
			found = append(found, correlation)
		}
	}
	text, first := strings.CutSuffix(name, ".1")
	for correlation, f := range s.core.flights {
		if string(f.send.Content.Bytes) == text || s.names[f.send.pending] == text {
			found = append(found, correlation)
		}
	}
	switch {
	case len(found) == 0:
		s.printf("nothing called %q is on the wire", name)
		return 0
	case first:
		return slices.Min(found)
	}
	return slices.Max(found)
}

// do runs one line that is not a frame.
func (s *script) do(line string) {
	name, rest, _ := strings.Cut(line, " ")
	f := fields(rest)
	switch name {
	case "start":
		s.start(f)
	case "dialed":
		s.core.dialed(s.now, f["token"])
	case "failed":
		s.core.failed(s.now, map[string]error{"refused": ErrRefused, "": errNoNetwork}[f["0"]])
	case "closed":
		s.core.closed(s.now, uint16(s.number(f, "code")), f["reason"], errNoNetwork)
	case "wait":
		s.wait(f["0"])
	case "queue":
		p := newPending(refs[f["0"]], wire.Text(f["1"]))
		s.names[p] = f["1"]
		if err := s.core.queue(p); err != nil {
			s.printf("queue: %v", err)
		}
	case "change", "create":
		ref := map[string]wire.Ref{"change": refs["group"], "create": newGroup}[name]
		if name == "create" {
			f["0"] = name
		}
		p := newPending(ref, wire.EventContent(eventBody(f)))
		s.names[p] = f["0"] + f["as"]
		if err := s.core.queue(p); err != nil {
			s.printf("queue: %v", err)
		}
	case "members", "info", "join":
		s.core.ask(&request{kind: requestNames[name], members: wire.Members{Ref: refs["group"]}, secret: make([]byte, wire.LinkSecretBytesMax)})
	case "stored", "unstored":
		s.storing = false
		s.core.wrote(s.now, map[string]error{"unstored": errDisk}[name])
	case "manual":
		s.manual = true
	case "hold":
		s.holding = true
	case "consume":
		s.holding = false
	case "read", "delivered":
		kind := map[string]wire.CursorKind{"read": wire.Read, "delivered": wire.Delivered}[name]
		if err := s.core.moveCursor(refs[f["0"]], kind, s.number(f, "1")); err != nil {
			s.printf("%s: %v", name, err)
		}
	case "typing":
		s.core.tellTyping(s.now, refs[f["0"]])
	case "history":
		s.core.ask(&request{kind: requestHistory, history: wire.History{Ref: refs[f["0"]], Sequence: s.number(f, "after")}})
	case "users":
		s.core.ask(&request{kind: requestUsers, queries: []wire.UserQuery{{ID: bob}}})
	case "list":
		s.list()
	case "close":
		s.core.close(s.now)
	default:
		s.t.Fatalf("no input %q", line)
	}
	s.perform()
}

// start begins the process, with an outbox of an earlier one if entries are named:
// text@counter of bob's conversation under epoch 5, and hole=counter.
func (s *script) start(f map[string]string) {
	limits := defaultLimits
	if f["limits"] == "small" {
		limits = coreLimits{conversations: 2, outbox: 3, epoch: 1, events: 4, fetch: 2, stash: 2}
	}
	var state OutboxState
	if f["outbox"] != "" {
		state = OutboxState{Epoch: 5, User: alice, Device: simDevice, ClusterEpoch: 1, Counters: map[wire.Ref]uint64{}}
		for entry := range strings.SplitSeq(f["outbox"], ",") {
			text, counter, _ := strings.Cut(entry, "@")
			n, _ := strconv.ParseUint(counter, 10, 64)
			state.Entries = append(state.Entries, OutboxEntry{Key: Key{5, refs["bob"], n}, Content: wire.Text(text)})
			state.Counters[refs["bob"]] = n
		}
		if hole := s.number(f, "hole"); hole > 0 {
			state.Holes = []Key{{5, refs["bob"], hole}}
		}
	}
	s.options.ManualDelivered = f["delivered"] == "manual"
	s.core = newCore(&s.options, limits, rand.New(rand.NewPCG(1, 1)), state)
	for _, p := range s.core.restored {
		s.names[p] = string(p.Content().Bytes)
	}
	s.core.tick(s.now)
}

// wait lets a time pass, or with "next" as much as the core waits for.
func (s *script) wait(text string) {
	if text == "next" {
		at := s.core.deadline()
		if at.IsZero() {
			s.printf("nothing to wait for")
			return
		}
		s.now = at
		s.printf("at %v", s.now.Sub(s.begin).Round(time.Second))
	} else {
		d, err := time.ParseDuration(text)
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
	}
	s.core.tick(s.now)
}

func (s *script) list() {
	for _, name := range []string{"bob", "carol", "group"} {
		if v := s.core.conversations[refs[name]]; v != nil && v.listed {
			s.printf("list %s", stateText(&v.state))
		}
	}
}

// perform tells the actions, writes and consumes until nothing more comes.
func (s *script) perform() {
	for again := true; again; {
		again = false
		for _, a := range s.core.take() {
			s.act(&a)
			again = true
		}
		if m := s.core.output(nil); len(m) > 0 {
			again = true
			for len(m) > 0 {
				f, rest, err := wire.NextFrame(m)
				if err != nil {
					s.t.Fatal(err)
				}
				s.printf("< %s", written(f))
				m = rest
			}
		}
		for e := s.core.feed.peek(); e != nil && !s.holding; e = s.core.feed.peek() {
			s.printf("event %s", eventText(e, s.now))
			s.core.handed()
			again = true
		}
	}
}

func (s *script) act(a *action) {
	switch a.kind {
	case actionDial:
		s.printf("dial endpoint=%q token=%v", a.endpoint, a.token)
	case actionDrop:
		s.printf("drop %d", a.code)
	case actionStore:
		for i := range a.changes {
			s.printf("store %s", s.changeText(&a.changes[i]))
		}
		if !s.manual {
			s.core.wrote(s.now, nil)
		}
	case actionKept:
		s.printf("kept %s", s.names[a.pending])
	case actionFinish:
		group := ""
		if a.pending.Ref() == newGroup {
			group = " as " + refName(a.sent.Ref)
		}
		s.printf("finish %s sequence=%d found=%v err=%v%s", s.names[a.pending], a.sent.Sequence, a.sent.Found, a.err, group)
	case actionAnswer:
		s.printf("answer %s", answerText(a.request))
	}
}

var changeNames = map[OutboxChangeKind]string{OutboxAdd: "add", OutboxRemove: "remove", OutboxRenew: "renew", OutboxCounter: "counter",
	OutboxIdentity: "identity", OutboxHole: "hole", OutboxRenumber: "renumber", OutboxSwitch: "switch", OutboxRefuse: "refuse"}

// changeText names epochs by whether the core sends under them now.
func (s *script) changeText(c *OutboxChange) string {
	key, name := c.Key, changeNames[c.Kind]
	if c.Kind == OutboxAdd {
		key = c.Entry.Key
	}
	epoch := "next"
	if key.Epoch == s.core.epoch.id {
		epoch = "current"
	}
	switch c.Kind {
	case OutboxIdentity:
		return fmt.Sprintf("identity user=%d device=%d cluster=%d", c.User, c.Device, c.ClusterEpoch)
	case OutboxRenew, OutboxSwitch:
		return fmt.Sprintf("%s %s", name, epoch)
	}
	if key.Ref == newGroup {
		return fmt.Sprintf("%s %s creation %d", name, epoch, key.Counter)
	}
	return fmt.Sprintf("%s %s %s %d", name, epoch, refName(key.Ref), key.Counter)
}

func answerText(r *request) string {
	switch r.kind {
	case requestJoin:
		return fmt.Sprintf("joined %d err=%v", r.sent.Sequence, r.err)
	case requestMembers:
		return fmt.Sprintf("%d of %d members, err=%v", len(r.list.Members), r.list.Total, r.err)
	case requestGroup:
		return fmt.Sprintf("group %q, role %v, err=%v", r.group.Title, r.group.Role, r.err)
	}
	return fmt.Sprintf("%d messages, %d users, err=%v", len(r.page.Messages), len(r.users), r.err)
}

func eventText(e Event, now time.Time) string {
	switch e := e.(type) {
	case *CountsEvent:
		return fmt.Sprintf("counts %s %d: %d and %d of %d", refName(e.Ref), e.Position, e.Delivered, e.Read, e.Of)
	case *MessageEvent:
		if event, ok := e.Content.Event(); ok {
			return fmt.Sprintf("change %s %d author=%d sent=%v %s", refName(e.Ref), e.Sequence, e.Author, e.Sent, changeEventText(&event))
		}
		return fmt.Sprintf("message %s %d author=%d sent=%v %s", refName(e.Ref), e.Sequence, e.Author, e.Sent, e.Content.Bytes)
	case *ReceiptEvent:
		return fmt.Sprintf("receipt %s kind=%d %d", refName(e.Ref), e.Kind, e.Position)
	case *TypingEvent:
		return fmt.Sprintf("typing %s author=%d", refName(e.Ref), e.Author)
	case *ConversationEvent:
		left := map[bool]string{true: " left"}[e.Left]
		return fmt.Sprintf("conversation first=%v begin=%d %s%s", e.First, e.Begin, stateText(&e.State), left)
	case *GapEvent:
		return fmt.Sprintf("gap %s %d to %d err=%v", refName(e.Ref), e.From, e.To, e.Err)
	case *ConnectionEvent:
		text := fmt.Sprintf("%v err=%v", e.State, e.Err)
		if e.State == Offline {
			text += fmt.Sprintf(" retry in %v", e.Retry.Sub(now).Round(10*time.Millisecond))
		}
		return text
	}
	return fmt.Sprintf("%T", e)
}

func stateText(c *wire.ConversationState) string {
	preview := ""
	if c.Preview != nil {
		preview = fmt.Sprintf(" preview=%q", c.Preview.Content.Bytes)
	}
	if g, err := wire.ParseGroupItem(c.Extensions); err == nil && c.Ref.Group() {
		preview += fmt.Sprintf(" title=%q role=%v from=%d members=%d", g.Title, g.Role, g.From, g.Members)
	}
	return fmt.Sprintf("%s head=%d unread=%d delivered=%d/%d read=%d/%d%s", refName(c.Ref), c.Head, c.Unread, c.Delivered, c.OtherDelivered, c.Read, c.OtherRead, preview)
}

// written tells a frame that the client wrote.
func written(f wire.Frame) string {
	text := f.Type.String()
	var err error
	switch f.Type {
	case wire.TypeHello:
		var h wire.Hello
		h, err = wire.ParseHello(f)
		text += fmt.Sprintf(" kind=%d credential=%s", h.Kind, h.Credential)
	case wire.TypeSync:
		var q wire.Sync
		q, err = wire.ParseSync(f)
		text += fmt.Sprintf(" correlation=%d token=%s", q.Correlation, q.Token)
	case wire.TypeSend:
		var m wire.Send
		m, err = wire.ParseSend(f)
		text += fmt.Sprintf(" correlation=%d %s counter=%d %s", m.Correlation, refName(m.Ref), m.Counter, m.Content.Bytes)
	case wire.TypeGroup:
		var g wire.GroupChange
		g, err = wire.ParseGroupChange(f)
		event, _ := wire.ParseEvent(g.Event)
		text += fmt.Sprintf(" correlation=%d %s counter=%d %s", g.Correlation, refName(g.Ref), g.Counter, changeEventText(&event))
	case wire.TypeMembers, wire.TypeGroupInfo, wire.TypeJoin:
		text += fmt.Sprintf(" correlation=%d", f.Body[0])
	case wire.TypeCursor:
		var c wire.Cursor
		c, err = wire.ParseCursor(f)
		text += fmt.Sprintf(" %s kind=%d %d", refName(c.Ref), c.Kind, c.Position)
	case wire.TypeHistory:
		var h wire.History
		h, err = wire.ParseHistory(f)
		text += fmt.Sprintf(" correlation=%d %s mode=%d from=%d limit=%d", h.Correlation, refName(h.Ref), h.Mode, h.Sequence, h.Limit)
	case wire.TypeUsers:
		var u wire.Users
		u, err = wire.ParseUsers(f)
		text += fmt.Sprintf(" correlation=%d queries=%d", u.Correlation, len(u.Queries))
	case wire.TypeTyping:
		var m wire.Typing
		m, err = wire.ParseTyping(f)
		text += " " + refName(m.Ref)
	}
	if err != nil {
		return text + " " + err.Error()
	}
	return text
}

// frame makes a frame of the server: its name and fields.
func (s *script) frame(line string) []byte {
	name, rest, _ := strings.Cut(line, " ")
	f := fields(rest)
	n := func(key string) uint64 { return s.number(f, key) }
	ref := refs[f["0"]]
	switch name {
	case "WELCOME":
		w := wire.Welcome{User: alice, Device: simDevice, HeartbeatSeconds: 25, Features: wire.FeatureGroups &^ n("without"), ClusterEpoch: max(1, n("cluster")), TicketSeconds: n("seconds"), Ticket: []byte(f["ticket"])}
		if user := n("user"); user > 0 {
			w.User = wire.ID(user)
		}
		return wire.AppendWelcome(nil, &w)
	case "ERROR":
		return wire.AppendError(nil, &wire.Error{Correlation: n("correlation"), Code: wire.Code(n("code")), RetryAfterMS: n("retry")})
	case "PONG":
		return wire.AppendPong(nil)
	case "GOAWAY":
		return wire.AppendGoAway(nil, &wire.GoAway{Code: wire.CodeGoingAway, SpreadMS: n("spread"), Endpoint: f["endpoint"]})
	case "SENT":
		return wire.AppendSent(nil, &wire.Sent{Correlation: n("correlation"), Sequence: n("sequence"), Time: wire.Time(n("sequence"))})
	case "MESSAGE":
		return wire.AppendMessage(nil, &wire.Message{Ref: ref, Sequence: n("1"), Revision: n("1"), Author: wire.ID(n("author")), Time: wire.Time(n("1")), Content: wire.Text(f["text"])})
	case "EVENT":
		return wire.AppendMessage(nil, &wire.Message{Ref: refs["group"], Sequence: n("1"), Revision: n("1"), Author: wire.ID(n("author")), Time: wire.Time(n("1")),
			Content: wire.EventContent(eventBody(f))})
	case "CREATED":
		return wire.AppendCreated(nil, &wire.Created{Correlation: n("correlation"), Ref: max(ref, refs["group"]), Sequence: 1})
	case "MEMBER_LIST":
		return wire.AppendMemberList(nil, &wire.MemberList{Correlation: n("correlation"), Total: 7, Members: []wire.Member{{User: alice, Role: wire.RoleOwner}}})
	case "GROUP_STATE":
		return wire.AppendGroupState(nil, &wire.GroupState{Correlation: n("correlation"), Ref: refs["group"], Title: "us", Role: wire.RoleAdmin})
	case "COUNTS":
		return wire.AppendCounts(nil, &wire.Counts{Ref: refs["group"], Position: n("1"), Delivered: n("delivered"), Read: n("read"), Of: n("of")})
	case "HEAD":
		return wire.AppendHead(nil, &wire.Head{Ref: ref, Sequence: n("1"), Revision: n("1")})
	case "RECEIPT":
		return wire.AppendReceipt(nil, &wire.Receipt{Ref: ref, Kind: wire.CursorKind(n("kind")), Position: n("1")})
	case "TYPING":
		return wire.AppendTyping(nil, &wire.Typing{Ref: ref, Author: wire.ID(n("author"))})
	case "CONVERSATIONS":
		return s.conversations(f)
	case "PAGE":
		page := wire.Page{Correlation: n("correlation"), Ref: ref, Head: n("head"), Flags: n("flags")}
		for sequence := n("from"); sequence > 0 && sequence <= n("to"); sequence++ {
			text := f["text"]
			if n("from") < n("to") {
				text += strconv.FormatUint(sequence, 10)
			}
			page.Messages = append(page.Messages, wire.PageMessage{Sequence: sequence, Revision: sequence, Author: wire.ID(n("author")),
				Time: wire.Time(sequence), Content: pageContent(f, text)})
		}
		return wire.AppendPage(nil, &page)
	case "USER_LIST":
		return wire.AppendUserList(nil, &wire.UserList{Correlation: n("correlation"), Users: []wire.User{{ID: bob, Version: 1, Name: "bob"}}})
	}
	s.t.Fatalf("no frame %q", line)
	return nil
}

var eventNames = map[string]wire.EventKind{"create": wire.EventCreate, "title": wire.EventTitle, "add": wire.EventAdd, "remove": wire.EventRemove,
	"leave": wire.EventLeave, "role": wire.EventRole, "owner": wire.EventOwner, "joined": wire.EventJoined}

// changeEventText is what an event says.
func changeEventText(e *wire.Event) string {
	text := e.Kind.String()
	if e.Text != "" {
		text += " " + e.Text
	}
	if e.Kind == wire.EventRole {
		text += " " + e.Role.String()
	}
	for _, user := range e.Users {
		text += " " + user.String()
	}
	return text
}

// eventBody is an event of the kind that the first word names, about one user or text.
func eventBody(f map[string]string) []byte {
	e := wire.Event{Kind: eventNames[f["0"]], Text: f["text"]}
	if e.Kind == wire.EventRole {
		e.Role = wire.RoleAdmin
	}
	if user, err := strconv.ParseUint(f["user"], 10, 48); err == nil {
		e.Users = []wire.ID{wire.ID(user)}
	}
	return wire.AppendEvent(nil, &e)
}

// pageContent is the content of a page's messages: an event if the fields name one.
func pageContent(f map[string]string, text string) wire.Content {
	if f["event"] == "" {
		return wire.Text(text)
	}
	return wire.EventContent(eventBody(map[string]string{"0": f["event"], "text": f["text"], "user": f["user"]}))
}

// conversations makes the answer to a SYNC: bob=head/delivered/read/otherDelivered/otherRead,
// and the same for carol.
func (s *script) conversations(f map[string]string) []byte {
	answer := wire.Conversations{Correlation: s.number(f, "correlation"), Flags: s.number(f, "flags"), Token: []byte(f["token"])}
	for _, name := range []string{"bob", "carol", "group"} {
		if f[name] == "" {
			continue
		}
		item := wire.ConversationState{Ref: refs[name]}
		for i, part := range strings.Split(f[name], "/") {
			n, err := strconv.ParseUint(part, 10, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			*[]*uint64{&item.Head, &item.Delivered, &item.Read, &item.OtherDelivered, &item.OtherRead}[i] = n
		}
		item.Revision, item.Time, item.Unread = item.Head, wire.Time(item.Head), item.Head-item.Read
		if name == "group" && f["role"] != "" {
			g := wire.GroupItem{Role: wire.Role(s.number(f, "role")), From: s.number(f, "member"), Title: f["title"], Members: s.number(f, "members")}
			item.Extensions = g.Block()
		}
		answer.Items = append(answer.Items, item)
	}
	return wire.AppendConversations(nil, &answer)
}
