package storage

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire"
)

// Options configure a store. The zero value of each but Path has a default.
type Options struct {
	Path           string        // the state's own folder, DIR/state
	FS             vfs.FS        // nil: the operating system's
	Logger         *slog.Logger  // nil: slog.Default()
	Fatal          func(error)   // told once when state cannot be written any more; must not return in production
	BufferBytesMax int64         // 0: BufferBytesDefault; all shards together
	FlushInterval  time.Duration // 0: FlushIntervalDefault
	CacheBytes     int64         // 0: CacheBytesDefault; uncompressed blocks
}

var errNotYet = errors.New("storage: not yet")

type Store struct{}
type Directory struct{}
type Shard struct{}
type Reader struct{}
type Writer struct{ Reader }
type Metrics struct{}
type Finding struct{}
type Summary struct{}

var (
	ErrInUse       = errors.New("storage: data directory is in use")
	ErrNewerFormat = errors.New("storage: data directory has a newer format")
	ErrNotParley   = errors.New("storage: not a data directory of Parley")
)

const FormatVersion = 1

func OpenDirectory(path string, fs vfs.FS) (*Directory, error) { return nil, errNotYet }
func (d *Directory) Path(elem ...string) string                { return "" }
func (d *Directory) Close() error                              { return nil }

func Open(o Options) (*Store, error)                                     { return nil, errNotYet }
func (s *Store) Shard(id uint32, first, last wire.Slot) (*Shard, error)  { return nil, errNotYet }
func (s *Store) Flush(ctx context.Context) error                         { return errNotYet }
func (s *Store) Close() error                                            { return nil }
func (s *Store) Metrics() Metrics                                        { return Metrics{} }
func (s *Shard) Record() Record                                          { return Record{} }
func (s *Shard) WaitIngested(ctx context.Context, index uint64) error    { return errNotYet }
func (s *Shard) Update(fn func(w *Writer) error) error                   { return errNotYet }
func (s *Shard) View(fn func(r *Reader) error) error                     { return errNotYet }
func (r *Reader) Applied() Record                                        { return Record{} }
func (r *Reader) User(id wire.ID) (User, bool, error)                    { return User{}, false, errNotYet }
func (r *Reader) UserByName(name string) (wire.ID, bool, error)          { return 0, false, errNotYet }
func (r *Reader) List(user wire.ID, fn func(List) error) error           { return errNotYet }
func (r *Reader) UserIndex(user wire.ID, fn func(UserIndex) error) error { return errNotYet }
func (r *Reader) Conversation(c wire.Conversation) (Conversation, bool, error) {
	return Conversation{}, false, errNotYet
}
func (r *Reader) Member(c wire.Conversation, user wire.ID) (Member, bool, error) {
	return Member{}, false, errNotYet
}
func (r *Reader) Messages(c wire.Conversation, from, to uint64, fn func(Message) (more bool, err error)) error {
	return errNotYet
}
func (r *Reader) MessagesBackward(c wire.Conversation, from, to uint64, fn func(Message) (more bool, err error)) error {
	return errNotYet
}
func (r *Reader) SentBefore(c wire.Conversation, sequence uint64) (uint64, error) {
	return 0, errNotYet
}
func (r *Reader) Outgoing(fn func(Outgoing) error) error { return errNotYet }
func (r *Reader) Incoming(from uint32) (uint64, error)   { return 0, errNotYet }

func (w *Writer) SetApplied(index, term uint64)                               {}
func (w *Writer) SetConfiguration(index uint64, configuration []byte)         {}
func (w *Writer) PutUser(u *User)                                             {}
func (w *Writer) PutName(name string, id wire.ID)                             {}
func (w *Writer) PutList(l *List)                                             {}
func (w *Writer) PutUserIndex(u *UserIndex)                                   {}
func (w *Writer) PutConversation(c wire.Conversation, v *Conversation)        {}
func (w *Writer) PutMember(c wire.Conversation, user wire.ID, m *Member)      {}
func (w *Writer) PutOutgoing(o *Outgoing)                                     {}
func (w *Writer) DeleteOutgoing(number uint64)                                {}
func (w *Writer) PutIncoming(from uint32, number uint64)                      {}
func (w *Writer) AppendMessage(c wire.Conversation, sentA uint64, m *Message) {}

func Fsck(ctx context.Context, path string, fs vfs.FS, report func(Finding)) (Summary, error) {
	return Summary{}, errNotYet
}
func FreeBytes(path string) (uint64, error) { return 0, errNotYet }
