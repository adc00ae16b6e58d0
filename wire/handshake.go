package wire

// A CredentialKind tells what HELLO carries to prove who is speaking.
type CredentialKind uint8

// The kinds of credentials.
const (
	CredentialToken  CredentialKind = 0 // a signed token (JWT, EdDSA)
	CredentialTicket CredentialKind = 1 // a resume ticket from an earlier WELCOME
)

// Flags of HELLO.
const (
	// HelloForeground says that a person is looking at the client now.
	HelloForeground = 1 << 0
)

// A Hello is a session's first frame. SYNC and SENDs may follow without waiting.
type Hello struct {
	Version          uint64
	Flags            uint64
	HeartbeatSeconds uint64 // wish; 0: the server's choice
	Features         uint64 // bits that the client understands; 0 in version 1
	OutboxEpoch      uint64 // 64 random bits that name the client's outbox
	Kind             CredentialKind
	Credential       []byte
	Client           string // for operators' logs, such as "parley-go/0.1"
}

// AppendHello appends a HELLO frame.
func AppendHello(dst []byte, h *Hello) []byte {
	dst, start := open(dst, TypeHello, false)
	dst = appendUvarint(dst, h.Version)
	dst = appendUvarint(dst, h.Flags)
	dst = appendUvarint(dst, h.HeartbeatSeconds)
	dst = appendUvarint(dst, h.Features)
	dst = appendFixed64(dst, h.OutboxEpoch)
	dst = appendUvarint(dst, uint64(h.Kind))
	dst = appendBytes(dst, h.Credential)
	dst = append(dst, clip(h.Client, ClientBytesMax)...)
	return closeFrame(dst, start)
}

// ParseHello reads a HELLO frame; the credential aliases it. Only Version is sure to
// mean the same in every version, so it is set even when the rest cannot be read.
func ParseHello(f Frame) (h Hello, err error) {
	r := f.fields()
	h.Version, h.Flags, h.HeartbeatSeconds = r.uint(), r.uint(), r.uint()
	h.Features, h.OutboxEpoch = r.uint(), r.fixed64()
	h.Kind = CredentialKind(r.upTo(255))
	h.Credential = r.bytes(CredentialBytesMax)
	client := r.rest()
	if len(client) > ClientBytesMax {
		r.fail(ErrLimit)
	}
	if r.err == nil {
		h.Client = string(client)
	}
	return h, r.end()
}

// A Welcome answers HELLO.
type Welcome struct {
	User             ID
	Device           ID
	HeartbeatSeconds uint64 // send PING when nothing else was sent for this long
	Time             Time   // of the server, for the client's clock
	Features         uint64 // bits that both sides understand
	ClusterEpoch     uint64 // when it changes, sync tokens and outboxes start anew
	TicketSeconds    uint64 // how long the ticket is good; 0 with an empty ticket
	Ticket           []byte // empty: keep the one you have
}

// AppendWelcome appends a WELCOME frame.
func AppendWelcome(dst []byte, w *Welcome) []byte {
	dst, start := open(dst, TypeWelcome, false)
	dst = appendUvarint(dst, uint64(w.User))
	dst = appendUvarint(dst, uint64(w.Device))
	dst = appendUvarint(dst, w.HeartbeatSeconds)
	dst = appendUvarint(dst, uint64(w.Time))
	dst = appendUvarint(dst, w.Features)
	dst = appendUvarint(dst, w.ClusterEpoch)
	dst = appendUvarint(dst, w.TicketSeconds)
	dst = append(dst, w.Ticket...)
	return closeFrame(dst, start)
}

// ParseWelcome reads a WELCOME frame; the ticket aliases it.
func ParseWelcome(f Frame) (w Welcome, err error) {
	r := f.fields()
	w.User, w.Device = r.id(), r.id()
	w.HeartbeatSeconds, w.Time = r.uint(), Time(r.uint())
	w.Features, w.ClusterEpoch, w.TicketSeconds = r.uint(), r.uint(), r.uint()
	w.Ticket = r.rest()
	if len(w.Ticket) > CredentialBytesMax {
		r.fail(ErrLimit)
	}
	return w, r.end()
}

// AppendPing appends a PING frame.
func AppendPing(dst []byte) []byte { return append(dst, byte(TypePing), 0) }

// AppendPong appends a PONG frame.
func AppendPong(dst []byte) []byte { return append(dst, byte(TypePong), 0) }

// ParseEmpty reads a PING or PONG frame.
func ParseEmpty(f Frame) error {
	r := f.fields()
	return r.end()
}

// A GoAway announces that the server closes the session: connect again at a random
// moment within Spread, to Endpoint if it is set.
type GoAway struct {
	Code     Code
	SpreadMS uint64
	Endpoint string
}

// AppendGoAway appends a GOAWAY frame.
func AppendGoAway(dst []byte, g *GoAway) []byte {
	dst, start := open(dst, TypeGoAway, false)
	dst = appendUvarint(dst, uint64(g.Code))
	dst = appendUvarint(dst, g.SpreadMS)
	dst = append(dst, clip(g.Endpoint, ReasonBytesMax)...)
	return closeFrame(dst, start)
}

// ParseGoAway reads a GOAWAY frame.
func ParseGoAway(f Frame) (g GoAway, err error) {
	r := f.fields()
	g.Code, g.SpreadMS = Code(r.upTo(999)), r.uint()
	endpoint := r.rest()
	if len(endpoint) > ReasonBytesMax {
		r.fail(ErrLimit)
	}
	g.Endpoint = string(endpoint)
	return g, r.end()
}
