package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"

	"github.com/gobwas/ws"
)

// RequestBytesMax bounds the request of an opening handshake, in bytes: an ordinary
// browser's with cookies fits, and 10,000 slow ones cost 40 MB and no more.
const RequestBytesMax = 4 << 10

// Path is where the server speaks WebSocket; so does "/".
const Path = "/v1/socket"

// A HandshakeError is a refused request and the HTTP status that said so.
type HandshakeError struct {
	Status int
	Reason string
}

// Error is the status and the reason.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("websocket: %d %s", e.Status, e.Reason)
}

// What a Handshaker refuses by itself; ws.Upgrader refuses the rest.
var (
	errNotHTTP     = &HandshakeError{http.StatusBadRequest, "this is not HTTP; WebSocket without TLS is spoken here"}
	errTooLarge    = &HandshakeError{http.StatusRequestHeaderFieldsTooLarge, "request header above 4096 bytes"}
	errSubprotocol = &HandshakeError{http.StatusBadRequest, "the subprotocol of this server was not offered"}
	errMalformed   = &HandshakeError{http.StatusBadRequest, "malformed HTTP request"}
	errUpgrade     = &HandshakeError{http.StatusUpgradeRequired, "this is a WebSocket endpoint"}

	// ErrBusy is for a caller that has no room for another connection.
	ErrBusy = &HandshakeError{http.StatusServiceUnavailable, "too many connections"}
	// ErrLate is for a caller that has waited long enough for the rest of a request.
	ErrLate = &HandshakeError{http.StatusRequestTimeout, "the request was not complete in time"}

	errPath   = ws.RejectConnectionError(ws.RejectionStatus(http.StatusNotFound), ws.RejectionReason("not found; the WebSocket is at "+Path))
	errOrigin = ws.RejectConnectionError(ws.RejectionStatus(http.StatusForbidden), ws.RejectionReason("origin not allowed"))
)

// A Handshaker answers opening handshakes. It keeps its buffers between calls and
// belongs to one goroutine.
type Handshaker struct {
	subprotocol string
	checkOrigin func(origin []byte) bool
	upgrader    ws.Upgrader
	request     []byte // what the upgrader has not read yet
	response    []byte
}

// NewHandshaker makes a Handshaker. A client must offer the subprotocol, if there is
// one. checkOrigin judges the Origin that browsers send; nil allows all.
func NewHandshaker(subprotocol string, checkOrigin func(origin []byte) bool) *Handshaker {
	h := &Handshaker{subprotocol: subprotocol, checkOrigin: checkOrigin}
	h.upgrader = ws.Upgrader{ReadBufferSize: RequestBytesMax, OnRequest: h.onRequest, OnHeader: h.onHeader}
	if subprotocol != "" {
		h.upgrader.Protocol = func(offered []byte) bool { return string(offered) == subprotocol }
	}
	return h
}

// Upgrade looks at all that has arrived on a connection. As long as the request is not
// whole it uses nothing and returns no error. Then it appends the response to dst and
// says how many bytes the request took: frames may follow at once. With an error, the
// appended response says so to the client, and the connection is to be closed.
func (h *Handshaker) Upgrade(dst, data []byte) (response []byte, used int, err *HandshakeError) {
	if len(data) > 0 && (data[0] < 'A' || data[0] > 'Z') {
		return AppendHandshakeError(dst, errNotHTTP), 0, errNotHTTP
	}
	used = headerEnd(data)
	if used == 0 && len(data) < RequestBytesMax {
		return dst, 0, nil
	}
	if used == 0 || used > RequestBytesMax {
		return AppendHandshakeError(dst, errTooLarge), 0, errTooLarge
	}
	h.request, h.response = data[:used], h.response[:0]
	hs, failure := h.upgrader.Upgrade((*handshakeConn)(h))
	h.request = nil
	if failure != nil {
		err = handshakeError(failure)
	} else if hs.Protocol != h.subprotocol {
		err = errSubprotocol
	}
	if err != nil {
		return AppendHandshakeError(dst, err), used, err
	}
	return append(dst, h.response...), used, nil
}

// headerEnd is where the request ends, 0 if it has not ended yet.
func headerEnd(data []byte) int {
	if i := bytes.Index(data, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return 0
}

func (h *Handshaker) onRequest(uri []byte) error {
	path, _, _ := bytes.Cut(uri, []byte("?"))
	if string(path) == "/" || string(path) == Path {
		return nil
	}
	return errPath
}

func (h *Handshaker) onHeader(key, value []byte) error {
	if h.checkOrigin != nil && string(key) == "Origin" && !h.checkOrigin(value) {
		return errOrigin
	}
	return nil
}

// handshakeError gives the upgrader's failure a status. A request that asks for no
// WebSocket at all is told what this endpoint is.
func handshakeError(failure error) *HandshakeError {
	if errors.Is(failure, ws.ErrHandshakeBadUpgrade) || errors.Is(failure, ws.ErrHandshakeBadConnection) {
		return errUpgrade
	}
	var rejected *ws.ConnectionRejectedError
	if !errors.As(failure, &rejected) || rejected.StatusCode() == 0 {
		return errMalformed
	}
	return &HandshakeError{rejected.StatusCode(), rejected.Error()}
}

// AppendHandshakeError appends the HTTP response of a refusal. It closes the
// connection, so that nothing need be known about what follows the request.
func AppendHandshakeError(dst []byte, e *HandshakeError) []byte {
	dst = fmt.Appendf(dst, "HTTP/1.1 %d %s\r\nConnection: close", e.Status, http.StatusText(e.Status))
	if e.Status == http.StatusUpgradeRequired {
		dst = append(dst, ", Upgrade"...)
	}
	dst = append(dst, "\r\n"...)
	switch e.Status {
	case http.StatusUpgradeRequired:
		dst = append(dst, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"...)
	case http.StatusMethodNotAllowed:
		dst = append(dst, "Allow: GET\r\n"...)
	case http.StatusServiceUnavailable:
		dst = append(dst, "Retry-After: 5\r\n"...)
	}
	return fmt.Appendf(dst, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s\n", len(e.Reason)+1, e.Reason)
}

// handshakeConn is the connection that the upgrader sees: the request that is whole,
// and the response that is not sent yet.
type handshakeConn Handshaker

func (c *handshakeConn) Read(p []byte) (int, error) {
	n := copy(p, c.request)
	c.request = c.request[n:]
	if n == 0 {
		return 0, errMalformed // the upgrader wants more than a whole request
	}
	return n, nil
}

func (c *handshakeConn) Write(p []byte) (int, error) {
	c.response = append(c.response, p...)
	return len(p), nil
}
