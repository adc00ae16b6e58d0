package wire

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// askedKinds are the events that GROUP may ask for of a group that is there.
var askedKinds = []EventKind{EventTitle, EventDescription, EventPicture, EventSettings, EventAdd, EventRemove,
	EventBan, EventUnban, EventLeave, EventRole, EventOwner, EventLink, EventUnlink}

var eventKinds = append([]EventKind{EventCreate, EventJoined}, askedKinds...)

// eventGen draws an event, or one of the kinds.
func eventGen(kinds ...EventKind) *rapid.Generator[Event] {
	return rapid.Custom(func(t *rapid.T) Event {
		e := Event{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
		if e.Kind.hasFlags() {
			e.Flags = rapid.Uint64Range(0, groupFlagsEnd-1).Draw(t, "flags")
		}
		if e.Kind == EventRole {
			e.Role = Role(rapid.IntRange(int(RoleReader), int(RoleAdmin)).Draw(t, "role"))
		}
		if limit := e.Kind.textMax(); limit >= 0 {
			e.Text = textGen(limit).Draw(t, "text")
		}
		if e.Kind == EventLink {
			e.Hash = HashOfSecret(rapid.SliceOfN(rapid.Byte(), LinkSecretBytesMax, LinkSecretBytesMax).Draw(t, "secret"))
			e.Expires, e.Uses = timeGen.Draw(t, "expires"), numberGen.Draw(t, "uses")
		}
		if least, most := e.Kind.users(); most > 0 {
			e.Users = rapid.SliceOfNDistinct(idGen, least, most, rapid.ID).Draw(t, "users")
			slices.Sort(e.Users)
		}
		return e
	})
}

var (
	groupRefGen    = rapid.Map(idGen, GroupRef)
	groupChangeGen = rapid.Custom(func(t *rapid.T) GroupChange {
		g := GroupChange{Correlation: numberGen.Draw(t, "correlation"), Ref: GroupRef(0), Counter: max(1, numberGen.Draw(t, "counter"))}
		event := eventGen(EventCreate)
		if rapid.IntRange(0, 4).Draw(t, "create") > 0 {
			g.Ref, event = groupRefGen.Draw(t, "ref"), eventGen(askedKinds...)
		}
		e := event.Draw(t, "event")
		g.Event = AppendEvent(nil, &e)
		return g
	})
	membersGen = rapid.Custom(func(t *rapid.T) Members {
		return Members{Correlation: numberGen.Draw(t, "correlation"), Ref: groupRefGen.Draw(t, "ref"), After: authorGen.Draw(t, "after"),
			Limit: rapid.Uint64Range(0, MembersMax).Draw(t, "limit"), Position: numberGen.Draw(t, "position")}
	})
	memberListGen = rapid.Custom(func(t *rapid.T) MemberList {
		member := rapid.Custom(func(t *rapid.T) Member {
			m := Member{User: idGen.Draw(t, "user"), Role: Role(rapid.IntRange(0, int(RoleOwner)).Draw(t, "role")), From: numberGen.Draw(t, "from"),
				Delivered: numberGen.Draw(t, "delivered"), DeliveredTime: Time(halfGen.Draw(t, "delivered time")),
				Read: numberGen.Draw(t, "read"), ReadTime: Time(halfGen.Draw(t, "read time"))}
			m.DeliveredBy = m.DeliveredTime > 0 && rapid.Bool().Draw(t, "delivered by")
			m.ReadBy = m.ReadTime > 0 && rapid.Bool().Draw(t, "read by")
			return m
		})
		return MemberList{Correlation: numberGen.Draw(t, "correlation"), Flags: numberGen.Draw(t, "flags"),
			Total: numberGen.Draw(t, "total"), Members: rapid.SliceOfN(member, 0, 8).Draw(t, "members")}
	})
	countsGen = rapid.Custom(func(t *rapid.T) Counts {
		return Counts{Ref: groupRefGen.Draw(t, "ref"), Position: numberGen.Draw(t, "position"), Delivered: numberGen.Draw(t, "delivered"),
			Read: numberGen.Draw(t, "read"), Of: numberGen.Draw(t, "of")}
	})
	groupInfoGen = rapid.Custom(func(t *rapid.T) GroupInfo {
		return GroupInfo{Correlation: numberGen.Draw(t, "correlation"), Ref: groupRefGen.Draw(t, "ref")}
	})
	groupStateGen = rapid.Custom(func(t *rapid.T) GroupState {
		return GroupState{Correlation: numberGen.Draw(t, "correlation"), Ref: groupRefGen.Draw(t, "ref"),
			Flags: numberGen.Draw(t, "flags"), Members: numberGen.Draw(t, "members"),
			Role: Role(rapid.IntRange(0, int(RoleOwner)).Draw(t, "role")), From: numberGen.Draw(t, "from"),
			Version: numberGen.Draw(t, "version"), Created: timeGen.Draw(t, "created"), Title: textGen(TitleBytesMax).Draw(t, "title"),
			Description: textGen(DescriptionBytesMax).Draw(t, "description"), Picture: textGen(PictureBytesMax).Draw(t, "picture")}
	})
	createdGen = rapid.Custom(func(t *rapid.T) Created {
		return Created{Correlation: numberGen.Draw(t, "correlation"), Ref: groupRefGen.Draw(t, "ref"),
			Sequence: numberGen.Draw(t, "sequence"), Time: timeGen.Draw(t, "time")}
	})
	joinGen = rapid.Custom(func(t *rapid.T) Join {
		return Join{Correlation: numberGen.Draw(t, "correlation"), Ref: groupRefGen.Draw(t, "ref"),
			Secret: rapid.SliceOfN(rapid.Byte(), LinkSecretBytesMax, LinkSecretBytesMax).Draw(t, "secret")}
	})
)

func TestEventsRoundTripAndAreCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := eventGen(eventKinds...).Draw(t, "event")
		body := AppendEvent(nil, &e)
		again, err := ParseEvent(body)
		if err != nil || diff(e, again) != "" {
			t.Fatalf("%v\n%s", err, diff(e, again))
		}
		read, ok := EventContent(body).Event()
		if !ok || diff(e, read) != "" {
			t.Fatalf("as a content: %v, %s", ok, diff(e, read))
		}
		cut := rapid.IntRange(0, len(body)-1).Draw(t, "cut")
		if _, err := ParseEvent(body[:cut]); err == nil {
			t.Fatalf("%x is read, cut to %d bytes", body, cut)
		}
	})
}

// An event that says more than its kind does, or in another order, has another meaning to
// somebody: none of them is read.
func TestEventsThatAreNone(t *testing.T) {
	for name, body := range map[string][]byte{
		"nothing": {}, "kind 0": {0}, "an unknown kind": {16}, "a byte too many": {10, 0},
		"role none": {11, 0, 1, 5}, "the role of the owner": {11, 5, 1, 5},
		"nobody added": {6, 0}, "nobody to own it": {12, 0}, "two owners": {12, 2, 5, 6},
		"users that do not ascend": {6, 2, 6, 5}, "a user twice": {6, 2, 5, 5}, "user zero": {6, 1, 0},
		"fewer users than it says": {6, 2, 5}, "a link without a hash": {14, 0, 0},
		"a link whose hash stands for none": append([]byte{14}, make([]byte, LinkHashBytesMax+2)...),
	} {
		if e, err := ParseEvent(body); err == nil {
			t.Errorf("%s: read as %+v", name, e)
		}
	}
	for name, c := range map[string]Content{
		"text": Text("\x0a"), "another class": extended(AppendExtension(nil, TagClass, []byte{1}), []byte{10}),
		"one more tag": extended(AppendExtension(AppendExtension(nil, TagClass, []byte{ClassEvent}), 2, []byte{1}), []byte{10}),
		"a bad event":  EventContent([]byte{0}), "no event": EventContent(nil),
	} {
		if e, ok := c.Event(); ok {
			t.Errorf("%s: an event, %+v", name, e)
		}
	}
}

// A group is made by one event, and no other; what only servers say is not asked for.
func TestChangesThatAreNone(t *testing.T) {
	change := func(ref Ref, counter uint64, e Event) error {
		_, err := ParseGroupChange(mustFrame(t, AppendGroupChange(nil, &GroupChange{Correlation: 1, Ref: ref, Counter: counter, Event: AppendEvent(nil, &e)})))
		return err
	}
	for _, kind := range askedKinds {
		least, _ := kind.users()
		e := Event{Kind: kind, Role: RoleMember, Users: []ID{alice, bob}[:least], Hash: HashOfSecret(nil)}
		if err := change(GroupRef(friends), 1, e); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
	}
	for name, err := range map[string]error{
		"a group is made a second time": change(GroupRef(friends), 1, Event{Kind: EventCreate}),
		"a change of no group":          change(GroupRef(0), 1, Event{Kind: EventLeave}),
		"a direct conversation":         change(DirectRef(alice), 1, Event{Kind: EventLeave}),
		"counter zero":                  change(GroupRef(friends), 0, Event{Kind: EventLeave}),
		"joined by a link":              change(GroupRef(friends), 1, Event{Kind: EventJoined}),
		"a flag that nobody knows":      change(GroupRef(friends), 1, Event{Kind: EventSettings, Flags: groupFlagsEnd}),
	} {
		if err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// What a later version says of groups is read as far as this one knows it.
func TestFlagsOfLaterVersionsAreKept(t *testing.T) {
	e, ok := EventContent(AppendEvent(nil, &Event{Kind: EventSettings, Flags: groupFlagsEnd | GroupHistory})).Event()
	if !ok || e.Flags != groupFlagsEnd|GroupHistory {
		t.Errorf("an event: %+v, %v", e, ok)
	}
	g, err := ParseGroupState(mustFrame(t, AppendGroupState(nil, &GroupState{Ref: GroupRef(friends), Flags: groupFlagsEnd})))
	if err != nil || g.Flags != groupFlagsEnd {
		t.Errorf("a state: %+v, %v", g, err)
	}
}

// Who asks for a link and who joins by it must come to the same hash.
func TestTheHashOfASecretIsItsSHA256(t *testing.T) {
	hash := HashOfSecret([]byte("abc"))
	if hash[0] != 0xba || hash[31] != 0xad || len(hash) != LinkHashBytesMax {
		t.Errorf("%x", hash)
	}
}

func TestNamesOfEventsAndRoles(t *testing.T) {
	for _, kind := range eventKinds {
		if strings.HasPrefix(kind.String(), "event ") || kind.String() == "" {
			t.Errorf("%d has no name", kind)
		}
	}
	if EventKind(0).String() != "event 0" || (EventUnlink+1).String() != "event 16" {
		t.Errorf("%v, %v", EventKind(0), EventUnlink+1)
	}
	if RoleOwner.String() != "owner" || Role(6).String() != "role 6" {
		t.Errorf("%v, %v", RoleOwner, Role(6))
	}
}

func TestItemsOfGroupsAllocateTheBlockAlone(t *testing.T) {
	own := Own{Flags: NumberMax, Version: NumberMax, MutedUntil: NumberMax}
	g := GroupItem{Own: own, Members: NumberMax, Role: RoleOwner, From: NumberMax, Title: string(filled(TitleBytesMax))}
	block := ""
	if n := testing.AllocsPerRun(100, func() { block = g.Block() }); n > 1 || len(block) > groupItemBytesMax {
		t.Errorf("%.0f allocations, %d bytes", n, len(block))
	}
}

func TestItemsOfGroupsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := GroupItem{Own: ownGen.Draw(t, "own"), Members: numberGen.Draw(t, "members"),
			Role: Role(rapid.IntRange(0, int(RoleOwner)).Draw(t, "role")), From: numberGen.Draw(t, "from"), Title: textGen(TitleBytesMax).Draw(t, "title")}
		if again, err := ParseGroupItem(g.Block()); err != nil || again != g {
			t.Fatalf("%+v, %v", again, err)
		}
	})
	later := AppendExtension([]byte((&GroupItem{Role: RoleMember, From: 3}).Block()), 40, []byte("later"))
	if g, err := ParseGroupItem(string(later)); err != nil || g.Role != RoleMember {
		t.Errorf("with a later tag: %+v, %v", g, err)
	}
	for name, block := range map[string][]byte{
		"no number":      AppendExtension(nil, itemMembers, nil),
		"too much":       AppendExtension(nil, itemMembers, []byte{1, 1}),
		"role 6":         AppendExtension(nil, itemRole, []byte{6, 1}),
		"a long title":   AppendExtension(nil, itemTitle, filled(TitleBytesMax+1)),
		"an empty block": {0, 0},
	} {
		if g, err := ParseGroupItem(string(block)); err == nil {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

func FuzzEvent(f *testing.F) {
	for _, x := range eventExamples {
		f.Add(AppendEvent(nil, &x))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := ParseEvent(body)
		if held := footprint(e); held > footprintMax || held > footprintPerByte*len(body) {
			t.Fatalf("%d bytes allocated for %d", held, len(body))
		}
		if err == nil && string(AppendEvent(nil, &e)) != string(body) {
			t.Fatalf("two encodings: %x, %x", body, AppendEvent(nil, &e))
		}
	})
}

func FuzzGroup(f *testing.F)      { fuzzKind(f, TypeGroup) }
func FuzzMembers(f *testing.F)    { fuzzKind(f, TypeMembers) }
func FuzzMemberList(f *testing.F) { fuzzKind(f, TypeMemberList) }
func FuzzCounts(f *testing.F)     { fuzzKind(f, TypeCounts) }
func FuzzGroupInfo(f *testing.F)  { fuzzKind(f, TypeGroupInfo) }
func FuzzGroupState(f *testing.F) { fuzzKind(f, TypeGroupState) }
func FuzzCreated(f *testing.F)    { fuzzKind(f, TypeCreated) }
func FuzzJoin(f *testing.F)       { fuzzKind(f, TypeJoin) }
