package wire

// FeatureGroups is the bit of groups in the features of HELLO and WELCOME.
const FeatureGroups = 1 << 1

// Flags of a group, in its create and settings events and in GROUP_STATE.
const (
	// GroupBroadcast lets only moderators and above write, and counts no receipts.
	GroupBroadcast = 1 << 0
	// GroupHistory shows who joins everything from the beginning, instead of from the join.
	GroupHistory = 1 << 1
	// GroupMembersAdd lets every member add others.
	GroupMembersAdd = 1 << 2
	// GroupMembersEdit lets every member change title, description and picture.
	GroupMembersEdit = 1 << 3
	groupFlagsEnd    = 1 << 4
)

// A GroupChange asks for a change of a group: an event that becomes a message of it. With
// group 0 it makes a group; the counter is then the client's own count of its creations.
type GroupChange struct {
	Correlation uint64
	Ref         Ref
	Counter     uint64
	Event       []byte // as AppendEvent makes it
}

// AppendGroupChange appends a GROUP frame.
func AppendGroupChange(dst []byte, g *GroupChange) []byte {
	dst, start := open(dst, TypeGroup, false)
	dst = appendUvarint(dst, g.Correlation)
	dst = appendUvarint(dst, uint64(g.Ref))
	dst = appendUvarint(dst, g.Counter)
	dst = append(dst, g.Event...)
	return closeFrame(dst, start)
}

// ParseGroupChange reads a GROUP frame; the event, which is well formed and one that
// clients may ask for, aliases it.
func ParseGroupChange(f Frame) (g GroupChange, err error) {
	r := f.fields()
	g.Correlation, g.Ref, g.Counter = r.uint(), Ref(r.uint()), r.uint()
	g.Event = r.rest()
	if r.err != nil {
		return g, r.err
	}
	event, err := ParseEvent(g.Event)
	switch {
	case err != nil:
		return g, err
	case !g.Ref.Group() || g.Ref.ID() >= 1<<IDBits || g.Counter == 0:
		return g, ErrMalformed
	case (event.Kind == EventCreate) != (g.Ref.ID() == 0) || event.Kind == EventJoined:
		return g, ErrMalformed
	case event.Flags >= groupFlagsEnd:
		return g, ErrLimit
	}
	return g, nil
}

// Created answers the GROUP that made a group.
type Created struct {
	Correlation uint64
	Ref         Ref
	Sequence    uint64 // of the event
	Time        Time
}

// AppendCreated appends a CREATED frame.
func AppendCreated(dst []byte, c *Created) []byte {
	dst, start := open(dst, TypeCreated, false)
	dst = appendUvarint(dst, c.Correlation)
	dst = appendUvarint(dst, uint64(c.Ref))
	dst = appendUvarint(dst, c.Sequence)
	dst = appendUvarint(dst, uint64(c.Time))
	return closeFrame(dst, start)
}

// ParseCreated reads a CREATED frame.
func ParseCreated(f Frame) (c Created, err error) {
	r := f.fields()
	c = Created{Correlation: r.uint(), Ref: r.groupRef(), Sequence: r.uint(), Time: Time(r.uint())}
	return c, r.end()
}

// Members asks for a page of a group's members, in the order of their identifiers.
type Members struct {
	Correlation uint64
	Ref         Ref
	After       ID     // the last one of the page before; 0: from the beginning
	Limit       uint64 // at most MembersMax; 0: MembersMax
	Position    uint64 // with the times at which cursors passed this sequence; 0: with those of the cursors
}

// AppendMembers appends a MEMBERS frame.
func AppendMembers(dst []byte, m *Members) []byte {
	dst, start := open(dst, TypeMembers, false)
	dst = appendUvarint(dst, m.Correlation)
	dst = appendUvarint(dst, uint64(m.Ref))
	dst = appendUvarint(dst, uint64(m.After))
	dst = appendUvarint(dst, m.Limit)
	dst = appendUvarint(dst, m.Position)
	return closeFrame(dst, start)
}

// ParseMembers reads a MEMBERS frame.
func ParseMembers(f Frame) (m Members, err error) {
	r := f.fields()
	m = Members{Correlation: r.uint(), Ref: r.groupRef(), After: ID(r.upTo(1<<IDBits - 1)), Limit: r.upTo(MembersMax), Position: r.uint()}
	return m, r.end()
}

// Flags of MEMBER_LIST.
const (
	// MembersMore says that another page follows.
	MembersMore = 1 << 0
)

// A Member is one item of MEMBER_LIST. Its times are those of its cursors, or those at
// which they passed the position that was asked for; 0: not yet, or no longer known.
type Member struct {
	User          ID
	From          uint64 // first sequence that the member sees
	Delivered     uint64
	DeliveredTime Time
	Read          uint64
	ReadTime      Time
	Role          Role
	DeliveredBy   bool // DeliveredTime is not the moment, but one at which it had happened
	ReadBy        bool // the same of ReadTime
}

// memberBytesMin is the shortest item: seven numbers.
const memberBytesMin = 7

// A MemberList answers MEMBERS.
type MemberList struct {
	Correlation uint64
	Flags       uint64
	Total       uint64 // members of the group
	Members     []Member
}

// AppendMemberList appends a MEMBER_LIST frame.
func AppendMemberList(dst []byte, l *MemberList) []byte {
	dst, start := open(dst, TypeMemberList, false)
	dst = appendUvarint(dst, l.Correlation)
	dst = appendUvarint(dst, l.Flags)
	dst = appendUvarint(dst, l.Total)
	dst = appendUvarint(dst, uint64(len(l.Members)))
	for i := range l.Members {
		m := &l.Members[i]
		dst = appendUvarint(dst, uint64(m.User))
		dst = appendUvarint(dst, uint64(m.Role))
		dst = appendUvarint(dst, m.From)
		dst = appendUvarint(dst, m.Delivered)
		dst = appendMoment(dst, m.DeliveredTime, m.DeliveredBy)
		dst = appendUvarint(dst, m.Read)
		dst = appendMoment(dst, m.ReadTime, m.ReadBy)
	}
	return closeFrame(dst, start)
}

// appendMoment appends a time and whether it is only known to be no earlier, as one
// number.
func appendMoment(dst []byte, t Time, by bool) []byte {
	n := uint64(t) << 1
	if by {
		n |= 1
	}
	return appendUvarint(dst, n)
}

func (r *reader) moment() (t Time, by bool) {
	n := r.uint()
	if n == 1 {
		r.fail(ErrMalformed) // by no time
	}
	return Time(n >> 1), n&1 == 1
}

// ParseMemberList reads a MEMBER_LIST frame.
func ParseMemberList(f Frame) (l MemberList, err error) {
	r := f.fields()
	l.Correlation, l.Flags, l.Total = r.uint(), r.uint(), r.uint()
	n := r.count(MembersMax, memberBytesMin)
	l.Members = room[Member](n)
	for range n {
		if r.err != nil {
			break
		}
		m := Member{User: r.id(), Role: Role(r.upTo(uint64(RoleOwner))), From: r.uint()}
		m.Delivered = r.uint()
		m.DeliveredTime, m.DeliveredBy = r.moment()
		m.Read = r.uint()
		m.ReadTime, m.ReadBy = r.moment()
		l.Members = append(l.Members, m)
	}
	return l, r.end()
}

// Counts is a push: how many members of a group have received and read a message.
type Counts struct {
	Ref       Ref
	Position  uint64
	Delivered uint64
	Read      uint64
	Of        uint64 // members who may
}

// AppendCounts appends a COUNTS frame.
func AppendCounts(dst []byte, c *Counts) []byte {
	dst, start := open(dst, TypeCounts, false)
	dst = appendUvarint(dst, uint64(c.Ref))
	dst = appendUvarint(dst, c.Position)
	dst = appendUvarint(dst, c.Delivered)
	dst = appendUvarint(dst, c.Read)
	dst = appendUvarint(dst, c.Of)
	return closeFrame(dst, start)
}

// ParseCounts reads a COUNTS frame.
func ParseCounts(f Frame) (c Counts, err error) {
	r := f.fields()
	c = Counts{Ref: r.groupRef(), Position: r.uint(), Delivered: r.uint(), Read: r.uint(), Of: r.uint()}
	return c, r.end()
}

// GroupInfo asks how a group is.
type GroupInfo struct {
	Correlation uint64
	Ref         Ref
}

// AppendGroupInfo appends a GROUP_INFO frame.
func AppendGroupInfo(dst []byte, g *GroupInfo) []byte {
	dst, start := open(dst, TypeGroupInfo, false)
	dst = appendUvarint(dst, g.Correlation)
	dst = appendUvarint(dst, uint64(g.Ref))
	return closeFrame(dst, start)
}

// ParseGroupInfo reads a GROUP_INFO frame.
func ParseGroupInfo(f Frame) (g GroupInfo, err error) {
	r := f.fields()
	g = GroupInfo{Correlation: r.uint(), Ref: r.groupRef()}
	return g, r.end()
}

// A GroupState answers GROUP_INFO.
type GroupState struct {
	Correlation uint64
	Ref         Ref
	Flags       uint64
	Members     uint64
	Role        Role   // of who asks
	From        uint64 // first sequence that who asks sees
	Version     uint64 // revision of the last change of what is told here, members left out
	Created     Time
	Title       string
	Description string
	Picture     string
}

// AppendGroupState appends a GROUP_STATE frame.
func AppendGroupState(dst []byte, g *GroupState) []byte {
	dst, start := open(dst, TypeGroupState, false)
	dst = appendUvarint(dst, g.Correlation)
	dst = appendUvarint(dst, uint64(g.Ref))
	dst = appendUvarint(dst, g.Flags)
	dst = appendUvarint(dst, g.Members)
	dst = appendUvarint(dst, uint64(g.Role))
	dst = appendUvarint(dst, g.From)
	dst = appendUvarint(dst, g.Version)
	dst = appendUvarint(dst, uint64(g.Created))
	dst = appendBytes(dst, g.Title)
	dst = appendBytes(dst, g.Description)
	dst = appendBytes(dst, g.Picture)
	return closeFrame(dst, start)
}

// ParseGroupState reads a GROUP_STATE frame.
func ParseGroupState(f Frame) (g GroupState, err error) {
	r := f.fields()
	g = GroupState{Correlation: r.uint(), Ref: r.groupRef(), Flags: r.uint(), Members: r.uint(),
		Role: Role(r.upTo(uint64(RoleOwner))), From: r.uint(), Version: r.uint(), Created: Time(r.uint()),
		Title: string(r.bytes(TitleBytesMax)), Description: string(r.bytes(DescriptionBytesMax)), Picture: string(r.bytes(PictureBytesMax))}
	return g, r.end()
}

// A Join asks to become a member of a group by its link.
type Join struct {
	Correlation uint64
	Ref         Ref
	Secret      []byte // of the link, LinkSecretBytesMax
}

// AppendJoin appends a JOIN frame.
func AppendJoin(dst []byte, j *Join) []byte {
	dst, start := open(dst, TypeJoin, false)
	dst = appendUvarint(dst, j.Correlation)
	dst = appendUvarint(dst, uint64(j.Ref))
	dst = append(dst, j.Secret...)
	return closeFrame(dst, start)
}

// ParseJoin reads a JOIN frame; the secret aliases it.
func ParseJoin(f Frame) (j Join, err error) {
	r := f.fields()
	j = Join{Correlation: r.uint(), Ref: r.groupRef()}
	j.Secret = r.take(LinkSecretBytesMax)
	return j, r.end()
}

// A GroupItem is what the extension block of an item of CONVERSATIONS says of a group.
type GroupItem struct {
	Own     Own
	Members uint64
	Role    Role   // none: no longer a member
	From    uint64 // first sequence that the member sees
	Title   string
}

// The tags of that block, beside those of Own.
const (
	itemMembers Tag = 4
	itemRole    Tag = 6
	itemTitle   Tag = 8
)

// groupItemBytesMax bounds the block: three tags with their lengths, three numbers, the
// title, and Own.
const groupItemBytesMax = 3*2 + 1 + 2*8 + 1 + TitleBytesMax + ownBytesMax

// Block is the extension block of an item; what is zero is left out, the role apart. It
// allocates the block alone: a sync of a thousand groups makes a thousand.
func (g *GroupItem) Block() string {
	var room [groupItemBytesMax]byte
	block := room[:0]
	block = g.Own.appendFlags(block)
	if g.Members != 0 {
		block = appendNumbers(block, itemMembers, g.Members)
	}
	block = appendNumbers(block, itemRole, uint64(g.Role), g.From)
	if g.Title != "" {
		block = appendBytes(appendUvarint(block, uint64(itemTitle)), g.Title)
	}
	return string(g.Own.appendVersion(block))
}

// appendNumbers adds an extension of numbers to a block.
func appendNumbers(block []byte, tag Tag, numbers ...uint64) []byte {
	size := 0
	for _, n := range numbers {
		size += sizeUvarint(n)
	}
	block = appendUvarint(appendUvarint(block, uint64(tag)), uint64(size))
	for _, n := range numbers {
		block = appendUvarint(block, n)
	}
	return block
}

// ParseGroupItem reads such a block; other tags are passed over.
func ParseGroupItem(block string) (g GroupItem, err error) {
	err = walkExtensions([]byte(block), func(tag Tag, value []byte) error {
		r := reader{src: value}
		switch tag {
		case itemMembers:
			g.Members = r.uint()
		case itemRole:
			g.Role, g.From = Role(r.upTo(uint64(RoleOwner))), r.uint()
		case itemTitle:
			g.Title = string(r.rest())
			if len(g.Title) > TitleBytesMax {
				r.fail(ErrLimit)
			}
		default:
			if !g.Own.read(tag, &r) {
				return nil
			}
		}
		return r.end()
	})
	return g, err
}
