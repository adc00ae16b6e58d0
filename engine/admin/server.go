package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Timeouts of the HTTP servers: both are local, so a slow client is a stuck one.
const (
	readTimeout = 5 * time.Second
	idleTimeout = 2 * time.Minute
)

// A Config says where to listen and what to show.
type Config struct {
	Address  string              // of the admin port, on loopback; empty: no port
	Socket   string              // path of the operator's socket; empty: no socket
	Metrics  prometheus.Gatherer // nil: the port has no /metrics
	Health   Health
	Operator Operator // nil only without a socket
	Logger   *slog.Logger
}

// A Server answers on the admin port and the operator's socket until it is closed.
type Server struct {
	operator Operator
	health   Health
	log      *slog.Logger
	address  net.Addr
	servers  []*http.Server
}

// Listen opens the port and the socket and serves them in the background. The caller
// holds the lock of the data directory that the socket is in, so that a socket found
// there is a dead server's and is replaced.
func Listen(c Config) (*Server, error) {
	s := &Server{operator: c.Operator, health: c.Health, log: c.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if c.Address != "" {
		l, err := listenLoopback(c.Address)
		if err != nil {
			return nil, err
		}
		s.address = l.Addr()
		s.serve(l, s.portHandler(c.Metrics))
	}
	if c.Socket != "" {
		l, err := listenSocket(c.Socket)
		if err != nil {
			return nil, errors.Join(err, s.Close(context.Background()))
		}
		s.serve(l, s.socketHandler())
	}
	return s, nil
}

// Address is where the admin port listens, nil if there is none.
func (s *Server) Address() net.Addr { return s.address }

// Close stops listening, removes the socket and waits for running requests until ctx
// ends; what still runs then, such as a profile, is cut off.
func (s *Server) Close(ctx context.Context) error {
	var errs []error
	for _, h := range s.servers {
		if err := h.Shutdown(ctx); err != nil {
			errs = append(errs, h.Close())
		}
	}
	return errors.Join(errs...)
}

func (s *Server) serve(l net.Listener, h http.Handler) {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.servers = append(s.servers, server)
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the admin listener failed", "address", l.Addr(), "error", err)
		}
	}()
}

// portHandler routes the requests of the admin port; all of them only read.
func (s *Server) portHandler(metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.health.Ready(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, "not ready:", err)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	if metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelError)}))
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// CheckAddress reports whether an address is fit for the admin port: a loopback address, or
// localhost, and a port.
func CheckAddress(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return ErrNotLoopback
	}
	return nil
}

func listenLoopback(address string) (net.Listener, error) {
	if err := CheckAddress(address); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return l, nil
}

// listenSocket opens the operator's socket in place of one that a dead server left. The
// directory is the owner's alone (0700), so nobody can connect before the mode is set.
func listenSocket(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("admin: %w", err)
	}
	short, done, err := socketAddress(path)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	// The short name may be gone by the time of Close; socketListener removes the path.
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("admin: %w", err), l.Close())
	}
	return &socketListener{UnixListener: l, path: path}, nil
}

// A socketListener removes its socket when it is closed.
type socketListener struct {
	*net.UnixListener
	path string
}

// Close removes the name first, so that no client finds a socket that nobody answers.
func (l *socketListener) Close() error {
	err := os.Remove(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // closed before
	}
	return errors.Join(err, l.UnixListener.Close())
}
