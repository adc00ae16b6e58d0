package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"parley/cmd/parley/internal/chat"
	"parley/cmd/parley/internal/config"
	"parley/engine"
	"parley/engine/admin"
	"parley/engine/auth"
	"parley/engine/cluster"
	"parley/raft"
	"parley/raft/link"
	"parley/storage"
	"parley/wire"
	"parley/wire/client"
)

// The exit codes. They are frozen, and exitCodesText documents them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInUse       = 3
	exitData        = 4
	exitRefused     = 5
	exitUnreachable = 6
	exitFatal       = 7
	exitInterrupted = 130
)

const exitCodesText = `Exit codes of every command:

  0    done
  1    failed for a reason that has no code of its own
  2    wrong usage, or a wrong configuration
  3    in use: another process has the data directory or the port
  4    the data directory is damaged, of a newer format, or not Parley's
  5    refused: the name is taken, the user is unknown, the token is not valid
  6    no server could be reached
  7    the server stopped itself, because it could no longer write to its disk
  130  interrupted
`

func newExitCodes() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: strings.TrimRight(exitCodesText, "\n")}
}

// A usageError is a wrong command line.
type usageError string

// Error is the sentence for the user.
func (e usageError) Error() string { return string(e) }

// A hint is an error with a sentence that says what to do, in place of its own.
type hint struct {
	sentence string
	err      error
}

func (h hint) Error() string { return h.sentence }
func (h hint) Unwrap() error { return h.err }

// explanations say for an error what happened, what to do, and how to exit. The first
// that matches is taken; %v is the error's own text.
var explanations = []struct {
	err      error
	code     int
	sentence string
}{
	{context.Canceled, exitInterrupted, ""}, // who interrupted knows
	{config.ErrConfig, exitUsage, "%v"},
	{engine.ErrConfig, exitUsage, "%v"},
	{link.ErrCertificate, exitUsage, "%v"},
	{link.ErrAuthority, exitUsage, "%v"},
	{storage.ErrInUse, exitInUse, "the data directory is in use by another process: stop that one, or choose another directory with --data (%v)"},
	{storage.ErrNewerFormat, exitData, "the data directory was written by a newer version of Parley: use that version, or a backup from before (%v)"},
	{storage.ErrNotParley, exitData, "this directory has other files in it and is not a data directory of Parley: choose another one with --data (%v)"},
	{storage.ErrNoDirectory, exitData, "there is no data directory of Parley here: %v"},
	{storage.ErrDamaged, exitData, "the data directory is damaged: `parley fsck DIR` says where; restore a backup (%v)"},
	{raft.ErrDamaged, exitData, "the log in the data directory is damaged: `parley fsck DIR` says where; restore a backup (%v)"},
	{errDamage, exitData, "%v"},
	{engine.ErrIdentity, exitData, "%v"},
	{engine.ErrReplicas, exitData, "%v"},
	{cluster.ErrDamaged, exitData, "%v"},
	{engine.ErrReplicas, exitData, "%v"},
	{auth.ErrKeysDamaged, exitData, "%v"},
	{auth.ErrKeysNewer, exitData, "%v"},
	{auth.ErrKeysPublic, exitData, "%v"},
	{syscall.EADDRINUSE, exitInUse, "the port is in use by another process: stop that one, or choose another with --listen or --admin (%v)"},
	{syscall.EADDRNOTAVAIL, exitUsage, "this machine does not have the address: choose another with --listen or --admin (%v)"},
	{syscall.EACCES, exitFailed, "permission denied: use an account that may do this, or another directory or port (%v)"},
	{syscall.ENOSPC, exitFailed, "the disk is full: make room and start again (%v)"},
	{admin.ErrNoServer, exitUnreachable, "no server is running on this data directory: start one with `parley serve`, or name its directory with --data (%v)"},
	{admin.ErrRefused, exitRefused, "%v"},
	{engine.ErrJoin, exitRefused, "%v"},
	{engine.ErrRemoved, exitRefused, "%v"},
	{engine.ErrTwin, exitRefused, "%v"},
	{engine.ErrNothingToRecover, exitRefused, "%v"},
	{engine.ErrRecover, exitRefused, "%v"},
	{engine.ErrRecovering, exitRefused, "%v"},
	{admin.ErrNameTaken, exitRefused, "%v"},
	{admin.ErrUnknownUser, exitRefused, "%v: `parley user add NAME` makes one"},
	{admin.ErrUnavailable, exitFailed, "%v"},
	{auth.ErrBadName, exitRefused, "%v"},
	{auth.ErrBadPassword, exitRefused, "%v"},
	{auth.ErrLifetime, exitRefused, "%v"},
	{wire.ErrBadID, exitUsage, "%v"},
	{chat.ErrUnknownUser, exitRefused, "%v: `parley user add NAME` makes one"},
	{chat.ErrSelf, exitUsage, "%v"},
	{chat.ErrRefused, exitRefused, "%v"},
	{client.ErrAddress, exitUsage, "%v"},
	{client.ErrRefused, exitUnreachable, "%v"},
	{syscall.ECONNREFUSED, exitUnreachable, "no server answers there: is it running, and is the address right? (%v)"},
	{context.DeadlineExceeded, exitUnreachable, "gave up waiting (%v)"},
	{fs.ErrNotExist, exitFailed, "%v"},
}

// explain makes one sentence of an error, and says how to exit.
func explain(err error) (sentence string, code int) {
	var usage usageError
	if errors.As(err, &usage) {
		return usage.Error(), exitUsage
	}
	var refused *wire.Error
	if errors.As(err, &refused) {
		return fmt.Sprintf("the server refused: %s", strings.TrimPrefix(refused.Error(), "parley: ")), exitRefused
	}
	code, text := exitFailed, "%v"
	for _, x := range explanations {
		if errors.Is(err, x.err) {
			code, text = x.code, x.sentence
			break
		}
	}
	var h hint
	if errors.As(err, &h) {
		text = h.sentence
	} else {
		text = strings.ReplaceAll(text, "%v", detail(err))
	}
	return text, code
}

// detail is an error's text for people: on one line, without the package that found it,
// which is for developers.
func detail(err error) string {
	text := strings.TrimSpace(err.Error())
	for _, prefix := range []string{"auth: ", "admin: ", "storage: ", "engine: ", "raft: ", "link: ", "client: ", "reactor: ", "wire: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return strings.ReplaceAll(text, "\n", "; ")
}
