package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"parley/engine/admin"
	"parley/engine/auth"
)

func newUser() *cobra.Command { return group("user", "Manage users", newUserAdd()) }

func newUserAdd() *cobra.Command {
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Create a user; the password is asked for, or read from standard input",
		Long: "Creates a user and prints the id. On a terminal the password is asked for twice and not shown; otherwise it is\n" +
			"what comes on standard input, without the last line end. It works on a running server, through the socket in its\n" +
			"data directory, and on a data directory that no server uses.",
		Args: arguments(1, "one name"),
	}
	s := addSettings(c, "data", "shards")
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := s.load()
		if err != nil {
			return err
		}
		// Before the password is asked for: the name may be refused.
		if err := auth.CheckName(args[0]); err != nil {
			return err
		}
		password, err := readPassword(c.ErrOrStderr(), args[0])
		if err != nil {
			return err
		}
		return withOperator(c.Context(), &r.Config, func(o admin.Operator) error {
			id, err := o.CreateUser(c.Context(), args[0], password)
			if err == nil {
				fmt.Fprintf(c.OutOrStdout(), "%s\n", id)
			}
			return err
		})
	}
	return c
}

// readPassword asks on a terminal, and otherwise takes standard input.
func readPassword(prompts io.Writer, name string) ([]byte, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		b, err := io.ReadAll(io.LimitReader(os.Stdin, auth.PasswordBytesMax+3))
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
		return b, auth.CheckPassword(b)
	}
	defer restoreOnSignal(fd)()
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(prompts, prompt)
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(prompts)
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		return b, nil
	}
	password, err := ask("Password for " + name + ": ")
	if err != nil {
		return nil, err
	}
	if err := auth.CheckPassword(password); err != nil {
		return nil, err
	}
	again, err := ask("Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(password, again) {
		return nil, usageError("the two passwords are not the same")
	}
	return password, nil
}

// restoreOnSignal makes Ctrl-C at a password leave a terminal that shows what is written.
// The function that it returns ends that.
func restoreOnSignal(fd int) (end func()) {
	state, err := term.GetState(fd)
	if err != nil {
		return func() {} // then the password cannot be read, either
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, caught := <-signals; caught {
			_ = term.Restore(fd, state) // nothing is left to try
			fmt.Fprintln(os.Stderr)
			os.Exit(exitInterrupted)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}
