package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"parley/cmd/parley/internal/chat"
	"parley/cmd/parley/internal/config"
	"parley/engine"
	"parley/engine/admin"
	"parley/wire"
	"parley/wire/client"
)

// connectTimeout bounds the first connection. Later ones are tried for ever.
const connectTimeout = client.DialSeconds * time.Second

// chatFlags are the flags of `parley chat`.
type chatFlags struct {
	settings  *settings
	as, with  string
	server    string
	token     string
	tokenFile string
	history   int
	until     string
	follow    bool
}

func newChat() *cobra.Command {
	c := &cobra.Command{
		Use:   "chat",
		Short: "Chat with another user in the terminal",
		Long: "Chats with another user. Who you are is a token's to say: --token-file, PARLEY_TOKEN_FILE or PARLEY_TOKEN name one,\n" +
			"and on the server's own machine --as NAME asks the server for one, as its operator may.\n\n" +
			"On a terminal it shows the last messages, what comes in, whether the other is writing, and the ticks of your own\n" +
			"messages as they change: ✓ on the server's disk, ✓✓ on a device of the other, ✓✓ in colour read. Without a terminal\n" +
			"each line of standard input is a message and each event a line of output; at the end of the input it waits until\n" +
			"every message is --until sent, delivered or read, and ends.",
		Args: noArguments,
	}
	f := chatFlags{settings: addSettings(c, "data", "listen")}
	flags := c.Flags()
	flags.StringVar(&f.as, "as", "", "chat as this user, with a token from the server on this machine; `NAME`")
	flags.StringVar(&f.with, "with", "", "chat with this user; `NAME`")
	flags.StringVar(&f.server, "server", "", "the server, `ADDRESS` as ws://host:port (PARLEY_SERVER); default: the one that --listen names")
	flags.StringVar(&f.token, "token", "", "the `TOKEN`; others on this machine can see it, so prefer PARLEY_TOKEN or --token-file")
	flags.StringVar(&f.tokenFile, "token-file", "", "the `FILE` that has the token (PARLEY_TOKEN_FILE)")
	flags.IntVar(&f.history, "history", 20, fmt.Sprintf("how many of the last messages to show, 0 to %d; `N`", wire.HistoryMessagesMax))
	flags.StringVar(&f.until, "until", "sent", "when the input ends, wait until all is sent, delivered or read; `STATE`")
	flags.BoolVar(&f.follow, "follow", false, "when the input ends, stay")
	c.RunE = func(c *cobra.Command, _ []string) error { return runChat(c.Context(), &f) }
	return c
}

func runChat(ctx context.Context, f *chatFlags) error {
	r, err := f.settings.load()
	if err != nil {
		return err
	}
	until := map[string]chat.Status{"sent": chat.Sent, "delivered": chat.Delivered, "read": chat.Read}[f.until]
	if until == chat.None {
		return usageError(fmt.Sprintf("--until must be sent, delivered or read, not %q", f.until))
	}
	if f.history < 0 || f.history > wire.HistoryMessagesMax {
		return usageError(fmt.Sprintf("--history must be from 0 to %d, not %d", wire.HistoryMessagesMax, f.history))
	}
	if f.follow {
		until = chat.None
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	source, err := f.tokens(ctx, &r.Config)
	if err != nil {
		return err
	}
	interactive := term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("TERM") != "dumb"
	address := f.address(&r.Config)
	c, err := connect(ctx, client.Options{Address: address, Token: source, Name: "parley chat", Foreground: interactive})
	if err != nil {
		return err
	}
	defer c.Close()
	return converse(ctx, chat.Config{Client: c, With: f.with, Until: until, History: f.history}, interactive)
}

// connect gives up after a while, so that a wrong address is noticed.
func connect(ctx context.Context, o client.Options) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c, err := client.Open(ctx, o)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, hint{fmt.Sprintf("no server answers at %s: is it running, and is the address right? (%s)", o.Address, detail(err)), err}
	}
	return c, err
}

// converse runs the chat on a terminal or on pipes.
func converse(ctx context.Context, c chat.Config, interactive bool) error {
	input := make(chan chat.Input)
	c.Input = input
	if !interactive {
		c.View = chat.NewPlain(os.Stdout)
		go readInput(ctx, os.Stdin, input)
		return chat.Run(ctx, c)
	}
	fd := int(os.Stdin.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return fmt.Errorf("prepare the terminal: %w", err)
	}
	defer term.Restore(fd, before) // nothing is left to try
	width, height, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		width, height = 80, 24
	}
	c.View = chat.NewTerminal(os.Stdout, width, height, os.Getenv("NO_COLOR") == "")
	defer c.View.Close()
	c.Until = chat.None
	go readInput(ctx, os.Stdin, input)
	go watchSize(ctx, input)
	err = chat.Run(ctx, c)
	return err
}

// readInput hands over what comes in until its end. It stays in Read when the chat is
// over; the process is then, too.
func readInput(ctx context.Context, r io.Reader, input chan<- chat.Input) {
	b := make([]byte, 4096)
	for {
		n, err := r.Read(b)
		in := chat.Input{Bytes: append([]byte(nil), b[:n]...)}
		if n > 0 || err != nil {
			select {
			case input <- in:
			case <-ctx.Done():
				return
			}
		}
		if err != nil && n == 0 {
			return
		}
	}
}

// watchSize tells of changes of the terminal's size.
func watchSize(ctx context.Context, input chan<- chat.Input) {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	defer signal.Stop(changes)
	for {
		select {
		case <-changes:
		case <-ctx.Done():
			return
		}
		width, height, err := term.GetSize(int(os.Stdout.Fd()))
		if err != nil {
			continue
		}
		select {
		case input <- chat.Input{Resized: true, Width: width, Height: height}:
		case <-ctx.Done():
			return
		}
	}
}

// address is the server's: a flag, a variable, or where the server of the configuration listens.
func (f *chatFlags) address(c *config.Config) string {
	address := f.server
	if address == "" {
		address = os.Getenv("PARLEY_SERVER")
	}
	if address == "" {
		host, port, err := net.SplitHostPort(c.Listen)
		if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
			return "ws://" + net.JoinHostPort("127.0.0.1", port)
		}
		address = c.Listen
	}
	if !strings.Contains(address, "://") {
		address = "ws://" + address
	}
	return address
}

// tokens finds where tokens come from, and tries it once.
func (f *chatFlags) tokens(ctx context.Context, c *config.Config) (func(context.Context) (string, error), error) {
	if f.as != "" {
		return operatorTokens(ctx, c, f.as)
	}
	token, file := f.token, f.tokenFile
	if token == "" && file == "" {
		token, file = os.Getenv("PARLEY_TOKEN"), os.Getenv("PARLEY_TOKEN_FILE")
	}
	if token == "" && file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the token file cannot be read: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	if token == "" {
		return nil, usageError("who are you? Give --as NAME on the server's machine, or a token: --token-file, PARLEY_TOKEN_FILE or PARLEY_TOKEN; `parley token NAME` makes one")
	}
	return func(context.Context) (string, error) { return token, nil }, nil
}

// operatorTokens asks the server of a data directory for tokens, always for the same new
// device.
func operatorTokens(ctx context.Context, c *config.Config, name string) (func(context.Context) (string, error), error) {
	operator := admin.NewClient(socketPath(c.Data))
	first, err := operator.Token(ctx, name, 0, engine.TokenLifetimeDefault)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (string, error) {
		t, err := operator.Token(ctx, name, first.Device, engine.TokenLifetimeDefault)
		if errors.Is(err, admin.ErrUnknownUser) {
			err = &wire.Error{Code: wire.CodeUnauthenticated, Reason: err.Error()}
		}
		return t.Text, err
	}, nil
}
