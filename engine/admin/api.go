package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"parley/wire"
)

// Health says whether a node should get clients.
type Health interface {
	// Ready is nil when the node serves, and otherwise a sentence that says why not. It
	// must not block: load balancers ask every second.
	Ready() error
}

// An Operator does what the operator's socket offers. Methods may block on the disk and
// may be called from any goroutine.
type Operator interface {
	// CreateUser makes a user; the password is not kept after the call.
	CreateUser(ctx context.Context, name string, password []byte) (wire.ID, error)
	// Token signs a token for a device of a user; device 0 asks for a random new one.
	Token(ctx context.Context, name string, device wire.ID, lifetime time.Duration) (Token, error)
	// Flush returns once all that was applied before it is in the state store on disk. Logs
	// are cut behind it soon after.
	Flush(ctx context.Context) error
}

// A Token is a signed token and what is in it.
type Token struct {
	Text    string
	User    wire.ID
	Device  wire.ID
	Expires wire.Time
}

// requestBytesMax bounds a request on the socket: a name and a password, six times
// longer when every character is escaped.
const requestBytesMax = 8 << 10

// The bodies of the socket's requests and answers. Identifiers are decimal strings, as
// everywhere in JSON.
type (
	createUserRequest struct {
		Name     string `json:"name"`
		Password []byte `json:"password"` // base64: a password may be any bytes
	}
	createUserResponse struct {
		ID string `json:"id"`
	}
	tokenRequest struct {
		Name            string `json:"name"`
		Device          string `json:"device,omitempty"`
		LifetimeSeconds int64  `json:"lifetime_seconds"`
	}
	tokenResponse struct {
		Token   string    `json:"token"`
		User    string    `json:"user"`
		Device  string    `json:"device"`
		Expires time.Time `json:"expires"`
	}
	flushRequest  struct{}
	flushResponse struct{}
	errorResponse struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
)

// socketHandler routes the requests of the operator's socket.
func (s *Server) socketHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/users", func(w http.ResponseWriter, r *http.Request) {
		answer(s, w, r, s.createUser)
	})
	mux.HandleFunc("POST /v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		answer(s, w, r, s.token)
	})
	mux.HandleFunc("POST /v1/flush", func(w http.ResponseWriter, r *http.Request) {
		answer(s, w, r, s.flush)
	})
	s.routeCluster(mux)
	return mux
}

// answer reads a request, does it, and writes the response or the error.
func answer[Q, A any](s *Server, w http.ResponseWriter, r *http.Request, do func(context.Context, Q) (A, error)) {
	var q Q
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, requestBytesMax))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		writeError(w, fmt.Errorf("%w: %s", errBadRequest, err))
		return
	}
	a, err := do(r.Context(), q)
	if err != nil {
		if _, status := errorOf(err); status == http.StatusInternalServerError {
			s.log.Error("the operator's request failed", "path", r.URL.Path, "error", err)
		}
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, a)
}

func (s *Server) createUser(ctx context.Context, q createUserRequest) (createUserResponse, error) {
	id, err := s.operator.CreateUser(ctx, q.Name, q.Password)
	clear(q.Password)
	return createUserResponse{ID: id.String()}, err
}

func (s *Server) token(ctx context.Context, q tokenRequest) (tokenResponse, error) {
	var device wire.ID
	if q.Device != "" {
		id, err := wire.ParseID(q.Device)
		if err != nil {
			return tokenResponse{}, err
		}
		device = id
	}
	// Beyond a year the product might overflow; it is refused in any case.
	q.LifetimeSeconds = min(max(q.LifetimeSeconds, -1), 366*24*3600)
	t, err := s.operator.Token(ctx, q.Name, device, time.Duration(q.LifetimeSeconds)*time.Second)
	return tokenResponse{Token: t.Text, User: t.User.String(), Device: t.Device.String(), Expires: t.Expires.Time()}, err
}

func (s *Server) flush(ctx context.Context, _ flushRequest) (flushResponse, error) {
	return flushResponse{}, s.operator.Flush(ctx)
}

func writeError(w http.ResponseWriter, err error) {
	e, status := errorOf(err)
	writeJSON(w, status, errorResponse(*e))
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A failed write means that the client is gone: nobody is left to tell.
	_ = json.NewEncoder(w).Encode(body)
}
