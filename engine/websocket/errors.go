package websocket

import (
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// The close codes of RFC 6455, section 7.4.1, that a server has reason to send.
const (
	CodeNormal       uint16 = 1000
	CodeGoingAway    uint16 = 1001
	CodeProtocol     uint16 = 1002
	CodeUnsupported  uint16 = 1003
	CodeInvalid      uint16 = 1007
	CodePolicy       uint16 = 1008
	CodeTooBig       uint16 = 1009
	CodeInternal     uint16 = 1011
	CodeTryLater     uint16 = 1013
	codePrivateMax          = 4999
	codeRestart             = 1012 // 1012 to 1014 are in IANA's registry, not in the RFC
	codeBadGateway          = 1014
	closeReasonBytes        = ws.MaxControlFramePayloadSize - 2
)

// A CloseError is a broken rule of RFC 6455 and the code of the close frame that the
// peer is to get for it.
type CloseError struct {
	Code   uint16
	Reason string
}

// Error is the reason.
func (e *CloseError) Error() string { return "websocket: " + e.Reason }

// What a Decoder refuses by itself; ws.CheckHeader refuses the rest.
var (
	// ErrText refuses text: the protocol is binary, so no UTF-8 is ever checked.
	ErrText = &CloseError{CodeUnsupported, "text messages are not supported"}
	// ErrTooBig refuses a message beyond MessageBytesMax.
	ErrTooBig = &CloseError{CodeTooBig, "message too big"}
	// ErrLengthRange refuses a length of 2^63 and more, as section 5.2 wants.
	ErrLengthRange = &CloseError{CodeProtocol, "payload length out of range"}
	// ErrLengthForm refuses a length in more bytes than it takes, as section 5.2 wants.
	ErrLengthForm = &CloseError{CodeProtocol, "payload length not in its shortest form"}
	// ErrCloseShort refuses a close frame of 1 byte, half a code.
	ErrCloseShort = &CloseError{CodeProtocol, "close frame of one byte"}
	// ErrCloseCode refuses a code that must not be sent, or that nobody has defined.
	ErrCloseCode = &CloseError{CodeProtocol, "invalid close code"}
	// ErrCloseReason refuses a reason that is not UTF-8.
	ErrCloseReason = &CloseError{CodeInvalid, "close reason is not UTF-8"}
)

// checkClose judges what a close frame says. Codes from 5000 on have no meaning.
func checkClose(code ws.StatusCode, reason string) *CloseError {
	if !utf8.ValidString(reason) {
		return ErrCloseReason
	}
	if code >= codeRestart && code <= codeBadGateway {
		return nil
	}
	if code > codePrivateMax || ws.CheckCloseFrameData(code, "") != nil {
		return ErrCloseCode
	}
	return nil
}
