package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/wire"
)

// Names in the state's folder beside Pebble's own files.
const (
	sealName    = "SEAL"
	sealNewName = "SEAL.new"
	stagingName = "staging"
)

// errNoSeal reports a state without its seal.
var errNoSeal = fmt.Errorf("%w: %s is missing", ErrDamaged, sealName)

// A seal says how far each shard's state was at the last ingest. Pebble takes a damaged
// record in its manifest for the torn end of the file and forgets in silence every ingest
// behind it; the seal, written after the ingest and before the log may be cut, finds that out.
type seal struct {
	shards []sealedShard // by first slot
}

type sealedShard struct {
	id    uint32
	first wire.Slot
	index uint64
}

func (s *seal) clone() seal { return seal{slices.Clone(s.shards)} }

func (s *seal) set(shard *Shard, record Record) {
	i, found := slices.BinarySearchFunc(s.shards, shard.first, func(e sealedShard, first wire.Slot) int {
		return int(e.first) - int(first)
	})
	entry := sealedShard{shard.id, shard.first, record.Index}
	if found {
		s.shards[i] = entry
	} else {
		s.shards = slices.Insert(s.shards, i, entry)
	}
}

// remove forgets the shard that begins at a slot.
func (s *seal) remove(first wire.Slot) {
	s.shards = slices.DeleteFunc(s.shards, func(e sealedShard) bool { return e.first == first })
}

// check compares the seal with the records that the store holds.
func (s *seal) check(read func(first wire.Slot) (shardRecord, bool, error)) error {
	for _, e := range s.shards {
		record, ok, err := read(e.first)
		if err != nil {
			return err
		}
		if !ok || record.ID != e.id || record.Index < e.index {
			return damaged("shard %d is at log index %d and was sealed at %d: an ingest is lost",
				e.id, record.Index, e.index)
		}
	}
	return nil
}

// The seal's file: magic, version, count, then id, first slot and index of each shard as
// varints, then the CRC-32C of all before.
var (
	sealMagic = []byte("parleyseal")
	sealTable = crc32.MakeTable(crc32.Castagnoli)
)

const (
	sealVersion  = 1
	sealBytesMax = 256 << 10
)

func appendSeal(dst []byte, s *seal) []byte {
	start := len(dst)
	dst = append(append(dst, sealMagic...), sealVersion)
	dst = binary.AppendUvarint(dst, uint64(len(s.shards)))
	for _, e := range s.shards {
		dst = binary.AppendUvarint(dst, uint64(e.id))
		dst = binary.AppendUvarint(dst, uint64(e.first))
		dst = binary.AppendUvarint(dst, e.index)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], sealTable))
}

func parseSeal(src []byte) (s seal, err error) {
	body := len(src) - crc32.Size
	if body < len(sealMagic)+1 || string(src[:len(sealMagic)]) != string(sealMagic) ||
		crc32.Checksum(src[:body], sealTable) != binary.LittleEndian.Uint32(src[body:]) {
		return s, damaged("%s: checksum", sealName)
	}
	if version := src[len(sealMagic)]; version != sealVersion {
		return s, damaged("%s: version %d", sealName, version)
	}
	d := decoder{src: src[len(sealMagic)+1 : body]}
	for range d.upTo(wire.Slots) {
		s.shards = append(s.shards, sealedShard{
			id: uint32(d.upTo(1<<32 - 1)), first: wire.Slot(d.upTo(wire.Slots - 1)), index: d.uint(),
		})
	}
	return s, d.end()
}

func readSeal(fs vfs.FS, path string) (seal, error) {
	name := fs.PathJoin(path, sealName)
	if _, err := fs.Stat(name); err != nil {
		return seal{}, errNoSeal
	}
	b, err := readFile(fs, name, sealBytesMax)
	if err != nil {
		return seal{}, err
	}
	return parseSeal(b)
}

func writeSeal(fs vfs.FS, path string, s *seal) error {
	return replaceFile(fs, path, sealName, sealNewName, appendSeal(nil, s))
}

// replaceFile puts a file in place in one step: after a crash it is the old or the new one.
func replaceFile(fs vfs.FS, dir, name, temporary string, content []byte) error {
	from := fs.PathJoin(dir, temporary)
	f, err := fs.Create(from, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(slices.Clone(content)) // Write may change its argument
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(from, fs.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDirectory(fs, dir)
}

func syncDirectory(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDirectory makes a folder, mode 0700, and whatever is missing above it, so that a crash
// right after does not lose them with all that is written into them.
func makeDirectory(fs vfs.FS, path string) error {
	var parents []string
	for dir := path; ; {
		if _, err := fs.Stat(dir); err == nil {
			break
		}
		parent := fs.PathDir(dir)
		if parent == dir {
			break
		}
		parents = append(parents, parent)
		dir = parent
	}
	if err := fs.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := syncDirectory(fs, parent); err != nil {
			return err
		}
	}
	return nil
}

func readFile(fs vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return b, errors.Join(err, f.Close())
}

// prepareState makes the state's folder and clears the tables of a flush that a crash cut
// short. existed says whether there was a store before.
func prepareState(fs vfs.FS, path string) (existed bool, err error) {
	staging := fs.PathJoin(path, stagingName)
	if err := makeDirectory(fs, path); err != nil {
		return false, err
	}
	description, err := pebble.Peek(path, fs)
	if err != nil {
		return false, fmt.Errorf("storage: %s: %w", path, err)
	}
	if err := fs.RemoveAll(staging); err != nil {
		return false, err
	}
	if err := fs.MkdirAll(staging, 0o700); err != nil {
		return false, err
	}
	return description.Exists, syncDirectory(fs, path)
}
