package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version is the version of the link that this program speaks, versionOldest the oldest that
// it still understands. Two nodes use the highest that both know.
const (
	Version       = 1
	versionOldest = 1
)

// Errors of opening a connection.
var (
	// ErrRefused is wrapped by the reason that a peer gave for closing a connection.
	ErrRefused = errors.New("link: refused by the peer")
	// ErrTwin means that another process with this node's number is connected to the peer,
	// and lives: somebody has copied a data folder.
	ErrTwin = errors.New("link: another process has this node's number")
	// ErrNotMember means that the peer's Admit refuses this node.
	ErrNotMember = errors.New("link: not a member of the cluster")
	// ErrPreamble means that the other side does not speak this protocol.
	ErrPreamble = errors.New("link: not a Parley link")
)

// magic begins what both sides say first.
const magic = "PRLK"

// A purpose says what a connection is for. The numbers are frozen.
type purpose byte

const (
	purposeLink     purpose = 1
	purposeSnapshot purpose = 2
	purposeJoin     purpose = 3
)

// A hello is what the side says that opened the connection. Integers are little-endian.
//
//	magic 4 | version 1 | oldest 1 | purpose 1 | 0 | cluster 8 | from 4 | to 4 | incarnation 8 | epoch 8
type hello struct {
	version, oldest byte
	purpose         purpose
	cluster         uint64
	from, to        uint32
	incarnation     uint64 // random, of this life of the process
	epoch           uint64 // of the cluster map
}

const helloBytes = 40

func appendHello(dst []byte, h *hello) []byte {
	dst = append(dst, magic...)
	dst = append(dst, h.version, h.oldest, byte(h.purpose), 0)
	dst = binary.LittleEndian.AppendUint64(dst, h.cluster)
	dst = binary.LittleEndian.AppendUint32(dst, h.from)
	dst = binary.LittleEndian.AppendUint32(dst, h.to)
	dst = binary.LittleEndian.AppendUint64(dst, h.incarnation)
	return binary.LittleEndian.AppendUint64(dst, h.epoch)
}

func parseHello(b []byte) (hello, error) {
	if len(b) != helloBytes || !bytes.HasPrefix(b, []byte(magic)) {
		return hello{}, ErrPreamble
	}
	return hello{
		version: b[4], oldest: b[5], purpose: purpose(b[6]),
		cluster:     binary.LittleEndian.Uint64(b[8:]),
		from:        binary.LittleEndian.Uint32(b[16:]),
		to:          binary.LittleEndian.Uint32(b[20:]),
		incarnation: binary.LittleEndian.Uint64(b[24:]),
		epoch:       binary.LittleEndian.Uint64(b[32:]),
	}, nil
}

// A status is the answer to a hello. The numbers are frozen.
type status byte

const (
	statusWelcome   status = 0
	statusVersion   status = 1 // no version in common
	statusCluster   status = 2 // of another cluster
	statusReceiver  status = 3 // another node is at this address
	statusSender    status = 4 // the node is not a member, or claims to be this one
	statusDuplicate status = 5 // a living process has this node's number
	statusBusy      status = 6 // too many at once
	statusPurpose   status = 7 // unknown, or not served here
)

// A welcome answers a hello. A refusal has a reason for the operator.
//
//	magic 4 | version 1 | status 1 | length of reason 2 | cluster 8 | node 4 | incarnation 8 | epoch 8 | reason
type welcome struct {
	version     byte
	status      status
	cluster     uint64
	node        uint32
	incarnation uint64
	epoch       uint64
	reason      string
}

const welcomeBytes = 36

func appendWelcome(dst []byte, w *welcome) []byte {
	reason := w.reason[:min(len(w.reason), textBytesMax)]
	dst = append(dst, magic...)
	dst = append(dst, w.version, byte(w.status))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(reason)))
	dst = binary.LittleEndian.AppendUint64(dst, w.cluster)
	dst = binary.LittleEndian.AppendUint32(dst, w.node)
	dst = binary.LittleEndian.AppendUint64(dst, w.incarnation)
	dst = binary.LittleEndian.AppendUint64(dst, w.epoch)
	return append(dst, reason...)
}

// readWelcome reads the answer; a refusal is an error.
func readWelcome(r io.Reader) (welcome, error) {
	var b [welcomeBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return welcome{}, noEOF(err)
	}
	if !bytes.HasPrefix(b[:], []byte(magic)) {
		return welcome{}, ErrPreamble
	}
	w := welcome{
		version: b[4], status: status(b[5]),
		cluster:     binary.LittleEndian.Uint64(b[8:]),
		node:        binary.LittleEndian.Uint32(b[16:]),
		incarnation: binary.LittleEndian.Uint64(b[20:]),
		epoch:       binary.LittleEndian.Uint64(b[28:]),
	}
	n := binary.LittleEndian.Uint16(b[6:])
	if n > textBytesMax {
		return welcome{}, ErrPreamble
	}
	reason := make([]byte, n)
	if _, err := io.ReadFull(r, reason); err != nil {
		return welcome{}, noEOF(err)
	}
	w.reason = string(reason)
	switch w.status {
	case statusWelcome:
		return w, nil
	case statusDuplicate:
		return w, fmt.Errorf("%w: %w: %s", ErrTwin, ErrRefused, w.reason)
	case statusSender:
		return w, fmt.Errorf("%w: %w: %s", ErrNotMember, ErrRefused, w.reason)
	}
	return w, fmt.Errorf("%w: %q", ErrRefused, w.reason)
}
