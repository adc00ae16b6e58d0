package link

import (
	"encoding/binary"
	"fmt"

	hraft "github.com/hashicorp/raft"
)

// Flags of Raft's frames.
const (
	// flagLazy on a request says that nobody waits for the answer.
	flagLazy = 1 << 0

	flagSuccess        = 1 << 0
	flagNoRetryBackoff = 1 << 1
	flagGranted        = 1 << 0
	flagTransfer       = 1 << 7 // of a vote: asked for by a leader
)

// What an entry's first byte says besides its type.
const (
	entryTypeMask   = 0x0f
	entryExtensions = 1 << 4 // has extensions
	entryIndex      = 1 << 5 // does not follow on the one before
	entryTerm       = 1 << 6 // is not of the message's term
	entryUnknown    = 1 << 7
)

// appendAppend encodes an AppendEntries without its header, which the route gives. Of
// entries it leaves out AppendedAt, which decides nothing and is not kept on disk either.
func appendAppend(dst []byte, a *hraft.AppendEntriesRequest) []byte {
	dst = binary.AppendUvarint(dst, uint64(a.ProtocolVersion))
	dst = binary.AppendUvarint(dst, a.Term)
	dst = binary.AppendUvarint(dst, a.PrevLogEntry)
	dst = binary.AppendUvarint(dst, a.PrevLogTerm)
	dst = binary.AppendUvarint(dst, a.LeaderCommitIndex)
	if len(a.Entries) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(a.Entries)))
	next := a.PrevLogEntry + 1
	for _, e := range a.Entries {
		at := len(dst)
		dst = append(dst, byte(e.Type)&entryTypeMask)
		if e.Index != next {
			dst[at] |= entryIndex
			dst = binary.AppendUvarint(dst, e.Index)
		}
		if e.Term != a.Term {
			dst[at] |= entryTerm
			dst = binary.AppendUvarint(dst, e.Term)
		}
		if len(e.Extensions) > 0 {
			dst[at] |= entryExtensions
			dst = appendBytes(dst, e.Extensions)
		}
		dst = appendBytes(dst, e.Data)
		next = e.Index + 1
	}
	return dst
}

// parseAppend is the inverse of appendAppend. The entries alias the body.
func parseAppend(d *decoder, withEntries bool, a *hraft.AppendEntriesRequest) error {
	kind := frameAppendEmpty
	a.ProtocolVersion = protocolVersion(d)
	a.Term = d.uvarint()
	a.PrevLogEntry = d.uvarint()
	a.PrevLogTerm = d.uvarint()
	a.LeaderCommitIndex = d.uvarint()
	a.Entries = nil
	if withEntries {
		kind = frameAppend
		n := d.uvarint()
		if n == 0 || n > entriesMax || n > uint64(len(d.b)) {
			return fmt.Errorf("%w: %d entries in %d bytes", ErrFrame, n, len(d.b))
		}
		// One piece of memory for all of them: they are stored, kept and dropped together.
		entries := make([]hraft.Log, n)
		a.Entries = make([]*hraft.Log, n)
		next := a.PrevLogEntry + 1
		for i := range entries {
			parseEntry(d, &entries[i], next, a.Term)
			a.Entries[i] = &entries[i]
			next = entries[i].Index + 1
		}
	}
	return d.end(kind)
}

func parseEntry(d *decoder, e *hraft.Log, index, term uint64) {
	first := d.byte()
	if first&entryUnknown != 0 {
		d.bad = true
	}
	e.Type = hraft.LogType(first & entryTypeMask)
	e.Index, e.Term = index, term
	if first&entryIndex != 0 {
		e.Index = d.uvarint()
	}
	if first&entryTerm != 0 {
		e.Term = d.uvarint()
	}
	if first&entryExtensions != 0 {
		e.Extensions = d.bytes(FrameBytesMax)
	}
	if e.Data = d.bytes(FrameBytesMax); len(e.Data) == 0 {
		e.Data = nil
	}
}

// protocolVersion takes hashicorp/raft's, which is small; the library judges it.
func protocolVersion(d *decoder) hraft.ProtocolVersion {
	v := d.uvarint()
	if v > 1<<16 {
		d.bad = true
	}
	return hraft.ProtocolVersion(v)
}

func appendAppended(dst []byte, r *hraft.AppendEntriesResponse) []byte {
	var flags byte
	if r.Success {
		flags |= flagSuccess
	}
	if r.NoRetryBackoff {
		flags |= flagNoRetryBackoff
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, r.Term)
	return binary.AppendUvarint(dst, r.LastLog)
}

func parseAppended(d *decoder, r *hraft.AppendEntriesResponse) error {
	flags := d.byte()
	term, last := d.uvarint(), d.uvarint()
	if err := d.end(frameAppended); err != nil {
		return err
	}
	*r = hraft.AppendEntriesResponse{
		Term: term, LastLog: last,
		Success: flags&flagSuccess != 0, NoRetryBackoff: flags&flagNoRetryBackoff != 0,
	}
	return nil
}

func appendVote(dst []byte, v *hraft.RequestVoteRequest) []byte {
	var flags byte
	if v.LeadershipTransfer {
		flags |= flagTransfer
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(v.ProtocolVersion))
	dst = binary.AppendUvarint(dst, v.Term)
	dst = binary.AppendUvarint(dst, v.LastLogIndex)
	return binary.AppendUvarint(dst, v.LastLogTerm)
}

func parseVote(d *decoder, v *hraft.RequestVoteRequest) error {
	v.LeadershipTransfer = d.byte()&flagTransfer != 0
	v.ProtocolVersion = protocolVersion(d)
	v.Term = d.uvarint()
	v.LastLogIndex = d.uvarint()
	v.LastLogTerm = d.uvarint()
	return d.end(frameVote)
}

func appendPreVote(dst []byte, v *hraft.RequestPreVoteRequest) []byte {
	dst = binary.AppendUvarint(dst, uint64(v.ProtocolVersion))
	dst = binary.AppendUvarint(dst, v.Term)
	dst = binary.AppendUvarint(dst, v.LastLogIndex)
	return binary.AppendUvarint(dst, v.LastLogTerm)
}

func parsePreVote(d *decoder, v *hraft.RequestPreVoteRequest) error {
	v.ProtocolVersion = protocolVersion(d)
	v.Term = d.uvarint()
	v.LastLogIndex = d.uvarint()
	v.LastLogTerm = d.uvarint()
	return d.end(framePreVote)
}

// appendTermAnswer encodes the answers that are a term and a yes or no.
func appendTermAnswer(dst []byte, term uint64, yes bool) []byte {
	var flags byte
	if yes {
		flags = flagGranted
	}
	return binary.AppendUvarint(append(dst, flags), term)
}

func parseTermAnswer(d *decoder, kind frameKind) (term uint64, yes bool, err error) {
	yes = d.byte()&flagGranted != 0
	term = d.uvarint()
	return term, yes, d.end(kind)
}

func appendInstall(dst []byte, r *hraft.InstallSnapshotRequest) []byte {
	dst = binary.AppendUvarint(dst, uint64(r.ProtocolVersion))
	dst = binary.AppendUvarint(dst, uint64(r.SnapshotVersion))
	dst = binary.AppendUvarint(dst, r.Term)
	dst = binary.AppendUvarint(dst, r.LastLogIndex)
	dst = binary.AppendUvarint(dst, r.LastLogTerm)
	dst = appendBytes(dst, r.Configuration)
	dst = binary.AppendUvarint(dst, r.ConfigurationIndex)
	return binary.AppendUvarint(dst, uint64(r.Size))
}

// parseInstall copies the configuration: the body does not live as long as the snapshot.
func parseInstall(d *decoder, r *hraft.InstallSnapshotRequest) error {
	r.ProtocolVersion = protocolVersion(d)
	r.SnapshotVersion = hraft.SnapshotVersion(protocolVersion(d))
	r.Term = d.uvarint()
	r.LastLogIndex = d.uvarint()
	r.LastLogTerm = d.uvarint()
	r.Configuration = append([]byte(nil), d.bytes(FrameBytesMax)...)
	r.ConfigurationIndex = d.uvarint()
	size := d.uvarint()
	if size > 1<<62 {
		d.bad = true
	}
	r.Size = int64(size)
	return d.end(frameRequest)
}

// appendRoute encodes which replica speaks to which.
func appendRoute(dst []byte, key routeKey) []byte {
	dst = binary.AppendUvarint(dst, uint64(key.group))
	dst = appendBytes(dst, key.source)
	return appendBytes(dst, key.target)
}

// parseRoute is the inverse of appendRoute; more may follow.
func parseRoute(d *decoder, kind frameKind) (routeKey, error) {
	key := routeKey{group: d.uint32()}
	key.source = string(d.bytes(serverBytesMax))
	key.target = string(d.bytes(serverBytesMax))
	if d.bad || key.source == "" || key.target == "" {
		return routeKey{}, fmt.Errorf("%w: route in kind %d", ErrFrame, kind)
	}
	return key, nil
}
