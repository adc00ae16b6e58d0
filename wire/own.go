package wire

// FeatureOwn is the bit of one's own settings and of blocking in the features of HELLO and
// WELCOME.
const FeatureOwn = 1 << 7

// Flags of what a conversation is to one of its members alone.
const (
	// OwnMuted asks for no notification, until a time or for good.
	OwnMuted = 1 << 0
	// OwnArchived keeps it out of the list that is shown first.
	OwnArchived = 1 << 1
	// OwnUnread shows it as unread, whatever the read cursor says.
	OwnUnread = 1 << 2
	// OwnPinned keeps it at the top of the list.
	OwnPinned = 1 << 3
	// ownSettingsEnd is beyond the flags that a client sets; those above are the server's.
	ownSettingsEnd = 1 << 4
)

// OwnSettingsMask has the flags that OWN_SETTINGS sets.
const OwnSettingsMask = ownSettingsEnd - 1

// Own is what a conversation is to one of its members alone. Nobody else learns it.
type Own struct {
	Flags      uint64 // OwnMuted and so on; a receiver ignores those that it does not know
	Version    uint64 // counts the changes; 0: there was none
	MutedUntil Time   // with OwnMuted: from then on it is not muted any more; 0: for good
}

// An OwnSettings asks for other settings of one's own for a conversation.
type OwnSettings struct {
	Correlation uint64
	Ref         Ref
	Version     uint64 // of what the client has seen: a later change of another device is not undone
	Flags       uint64 // all of them, as they are to be
	MutedUntil  Time   // 0: for good; only with OwnMuted
}

// AppendOwnSettings appends an OWN_SETTINGS frame.
func AppendOwnSettings(dst []byte, s *OwnSettings) []byte {
	dst, start := open(dst, TypeOwnSettings, false)
	dst = appendUvarint(dst, s.Correlation)
	dst = appendUvarint(dst, uint64(s.Ref))
	dst = appendUvarint(dst, s.Version)
	dst = appendUvarint(dst, s.Flags)
	dst = appendUvarint(dst, uint64(s.MutedUntil))
	return closeFrame(dst, start)
}

// ParseOwnSettings reads an OWN_SETTINGS frame, which sets only what clients set.
func ParseOwnSettings(f Frame) (s OwnSettings, err error) {
	r := f.fields()
	s = OwnSettings{Correlation: r.uint(), Ref: r.ref(), Version: r.uint(), Flags: r.upTo(OwnSettingsMask), MutedUntil: Time(r.uint())}
	if s.MutedUntil != 0 && s.Flags&OwnMuted == 0 {
		r.fail(ErrMalformed)
	}
	return s, r.end()
}

// An OwnState is a push to a user's own devices: what a conversation is to the user now.
type OwnState struct {
	Ref        Ref
	Version    uint64
	Flags      uint64
	MutedUntil Time
}

// AppendOwnState appends an OWN_STATE frame.
func AppendOwnState(dst []byte, s *OwnState) []byte {
	dst, start := open(dst, TypeOwnState, false)
	dst = appendUvarint(dst, uint64(s.Ref))
	dst = appendUvarint(dst, s.Version)
	dst = appendUvarint(dst, s.Flags)
	dst = appendUvarint(dst, uint64(s.MutedUntil))
	return closeFrame(dst, start)
}

// ParseOwnState reads an OWN_STATE frame.
func ParseOwnState(f Frame) (s OwnState, err error) {
	r := f.fields()
	s = OwnState{Ref: r.ref(), Version: r.uint(), Flags: r.uint(), MutedUntil: Time(r.uint())}
	return s, r.end()
}

// The tags of one's own in the extension block of an item of CONVERSATIONS.
const (
	itemSettings Tag = 2  // the flags
	itemVersion  Tag = 10 // the version, and when muting ends
)

// ownBytesMax bounds what they take in a block: two tags with their lengths, three numbers.
const ownBytesMax = 2*2 + 3*8

// appendFlags adds the tag that comes before those of a group.
func (o *Own) appendFlags(block []byte) []byte {
	if o.Flags == 0 {
		return block
	}
	return appendNumbers(block, itemSettings, o.Flags)
}

// appendVersion adds the tag that comes behind them.
func (o *Own) appendVersion(block []byte) []byte {
	if o.Version == 0 {
		return block
	}
	return appendNumbers(block, itemVersion, o.Version, uint64(o.MutedUntil))
}

// Block is the extension block of a direct conversation's item; empty if there is nothing
// to tell.
func (o *Own) Block() string {
	var room [ownBytesMax]byte
	return string(o.appendVersion(o.appendFlags(room[:0])))
}

// ParseOwn reads one's own of a conversation from the extension block of an item; other
// tags are passed over.
func ParseOwn(block string) (o Own, err error) {
	err = walkExtensions([]byte(block), func(tag Tag, value []byte) error {
		r := reader{src: value}
		if !o.read(tag, &r) {
			return nil
		}
		return r.end()
	})
	return o, err
}

// read reads the value of a tag, if it is one of its own.
func (o *Own) read(tag Tag, r *reader) bool {
	switch tag {
	case itemSettings:
		o.Flags = r.uint()
	case itemVersion:
		o.Version, o.MutedUntil = r.uint(), Time(r.uint())
	default:
		return false
	}
	return true
}
