package admin

import (
	"errors"
	"net/http"

	"parley/engine/auth"
	"parley/wire"
)

// Errors of an Operator. They keep their identity across the socket, so that
// errors.Is works on the Client's side as on the server's; so do ErrBadName,
// ErrBadPassword and ErrLifetime of package auth and wire.ErrBadID.
var (
	ErrNameTaken   = errors.New("this name is taken: choose another one")
	ErrUnknownUser = errors.New("there is no user of this name")
	ErrUnavailable = errors.New("the server cannot do this now: try again")
)

// Errors of the admin port and socket themselves.
var (
	ErrNotLoopback = errors.New("admin: the admin port must be on a loopback address, such as 127.0.0.1:7071: it shows memory contents and has no password")
	ErrNoServer    = errors.New("admin: no server answers on the socket")
	errBadRequest  = errors.New("admin: not a request that this server understands")
)

// kinds are the errors that cross the socket, by the code that stands for them there.
var kinds = []struct {
	code   string
	status int
	err    error
}{
	{"name_taken", http.StatusConflict, ErrNameTaken},
	{"unknown_user", http.StatusNotFound, ErrUnknownUser},
	{"unavailable", http.StatusServiceUnavailable, ErrUnavailable},
	{"bad_name", http.StatusBadRequest, auth.ErrBadName},
	{"bad_password", http.StatusBadRequest, auth.ErrBadPassword},
	{"bad_lifetime", http.StatusBadRequest, auth.ErrLifetime},
	{"bad_device", http.StatusBadRequest, wire.ErrBadID},
	{"refused", http.StatusConflict, ErrRefused},
	{"bad_request", http.StatusBadRequest, errBadRequest},
}

// An Error is a refusal that came over the socket.
type Error struct {
	Code    string // one of a fixed set, such as "name_taken"; unknown ones may come
	Message string // a sentence for people
}

// Error is the server's sentence.
func (e *Error) Error() string { return e.Message }

// Unwrap is the sentinel that the code stands for, or nil.
func (e *Error) Unwrap() error {
	for _, k := range kinds {
		if k.code == e.Code {
			return k.err
		}
	}
	return nil
}

// errorOf finds what to answer for an error: its code and HTTP status. An error that is
// not of a known kind is the server's own fault.
func errorOf(err error) (*Error, int) {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return &Error{Code: k.code, Message: err.Error()}, k.status
		}
	}
	return &Error{Code: "internal", Message: err.Error()}, http.StatusInternalServerError
}
