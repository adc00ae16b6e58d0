package wire

import "errors"

// A Code says what went wrong and, by its hundreds, what to do about it. Codes are
// frozen; an unknown one is treated as its class says.
type Code uint16

// The codes of version 1. A WebSocket close carries 4000 plus the code.
const (
	// 1xx: nothing was decided; send again under the same counter.
	CodeOverloaded Code = 100
	CodeNotLeader  Code = 101
	CodeTimeout    Code = 102
	CodeOutOfOrder Code = 103

	// 2xx: send again, under the same counter, after the given time.
	CodeRateLimited Code = 200
	CodeDiskFull    Code = 201

	// 3xx: the session ends; connect again, elsewhere if told so.
	CodeGoingAway    Code = 300
	CodeSlow         Code = 301
	CodeIdleTimeout  Code = 302
	CodeHelloTimeout Code = 303

	// 4xx: permanent for this request, or for the session if it is a close code.
	CodeMalformed          Code = 400
	CodeUnknownFrame       Code = 401
	CodeFrameTooLarge      Code = 402
	CodeUnsupportedVersion Code = 403
	CodeUnknownUser        Code = 404
	CodeNotMember          Code = 405
	CodeBadCursor          Code = 406
	CodeReused             Code = 407
	CodeBodyTooLarge       Code = 408
	CodeUnknownOutcome     Code = 409
	CodeReplaced           Code = 410
	CodeUnsupported        Code = 411
	CodeForbidden          Code = 420
	CodeGroupFull          Code = 422
	CodeLastOwner          Code = 423
	CodeBanned             Code = 424
	CodeGone               Code = 425
	CodeBlocked            Code = 426
	CodeOutdated           Code = 430

	// 5xx: log out; the credential is no longer good for anything.
	CodeUnauthenticated Code = 500
	CodeTokenExpired    Code = 501
)

var codeNames = map[Code]string{
	CodeOverloaded: "OVERLOADED", CodeNotLeader: "NOT_LEADER", CodeTimeout: "TIMEOUT", CodeOutOfOrder: "OUT_OF_ORDER",
	CodeRateLimited: "RATE_LIMITED", CodeDiskFull: "DISK_FULL",
	CodeGoingAway: "GOING_AWAY", CodeSlow: "SLOW", CodeIdleTimeout: "IDLE_TIMEOUT", CodeHelloTimeout: "HELLO_TIMEOUT",
	CodeMalformed: "MALFORMED", CodeUnknownFrame: "UNKNOWN_FRAME", CodeFrameTooLarge: "FRAME_TOO_LARGE",
	CodeUnsupportedVersion: "UNSUPPORTED_VERSION", CodeUnknownUser: "UNKNOWN_USER", CodeNotMember: "NOT_MEMBER",
	CodeBadCursor: "BAD_CURSOR", CodeReused: "REUSED", CodeBodyTooLarge: "BODY_TOO_LARGE",
	CodeUnknownOutcome: "UNKNOWN_OUTCOME", CodeReplaced: "REPLACED", CodeUnsupported: "UNSUPPORTED",
	CodeForbidden: "FORBIDDEN", CodeGroupFull: "GROUP_FULL", CodeLastOwner: "LAST_OWNER", CodeBanned: "BANNED",
	CodeGone: "GONE", CodeBlocked: "BLOCKED", CodeOutdated: "OUTDATED",
	CodeUnauthenticated: "UNAUTHENTICATED", CodeTokenExpired: "TOKEN_EXPIRED",
}

// String is the name in PROTOCOL.md, or "code N".
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return "code " + uitoa(uint64(c))
}

// A Class is what a receiver of a code should do.
type Class uint8

// The classes of codes, by their hundreds.
const (
	ClassRetry      Class = 1
	ClassRetryAfter Class = 2
	ClassReconnect  Class = 3
	ClassPermanent  Class = 4
	ClassLogOut     Class = 5
)

// Class is the code's hundreds; what is out of range counts as permanent.
func (c Code) Class() Class {
	if class := Class(c / 100); c < 600 && class >= ClassRetry {
		return class
	}
	return ClassPermanent
}

// CloseCode is the WebSocket close code that ends a session with this code.
func (c Code) CloseCode() uint16 { return 4000 + uint16(c) }

// CodeOfClose recovers the code from a WebSocket close code, 0 if it carries none.
func CodeOfClose(closeCode uint16) Code {
	if closeCode < 4100 || closeCode >= 4600 {
		return 0
	}
	return Code(closeCode - 4000)
}

// CodeOf is the code with which a receiver refuses what the codec could not read.
func CodeOf(err error) Code {
	switch {
	case errors.Is(err, ErrFrameTooLarge):
		return CodeFrameTooLarge
	case errors.Is(err, ErrExtension):
		return CodeUnsupported
	}
	return CodeMalformed
}

// An Error is the ERROR frame, and the error that callers of a client see.
type Error struct {
	Correlation  uint64 // the request's; 0: the session's
	Code         Code
	RetryAfterMS uint64
	Reason       string
}

// Error is the code's name and the reason.
func (e *Error) Error() string {
	if e.Reason == "" {
		return "parley: " + e.Code.String()
	}
	return "parley: " + e.Code.String() + ": " + e.Reason
}

// AppendError appends an ERROR frame.
func AppendError(dst []byte, e *Error) []byte {
	dst, start := open(dst, TypeError, false)
	dst = appendUvarint(dst, e.Correlation)
	dst = appendUvarint(dst, uint64(e.Code))
	dst = appendUvarint(dst, e.RetryAfterMS)
	dst = append(dst, clip(e.Reason, ReasonBytesMax)...)
	return closeFrame(dst, start)
}

// ParseError reads an ERROR frame.
func ParseError(f Frame) (*Error, error) {
	r := f.fields()
	e := &Error{Correlation: r.uint(), Code: Code(r.upTo(999)), RetryAfterMS: r.uint()}
	reason := r.rest()
	if len(reason) > ReasonBytesMax {
		r.fail(ErrLimit)
	}
	e.Reason = string(reason)
	return e, r.end()
}

// clip cuts a text that is too long; a cut rune is the reader's replacement character.
func clip(s string, limit int) string { return s[:min(len(s), limit)] }
