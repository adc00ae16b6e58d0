package cluster

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/raft"
)

// ErrDamaged reports a file of the map that cannot be used. A copy of the map that others
// have may be deleted; the state of a voter of the map's group must not: its node joins
// again as a new one.
var ErrDamaged = errors.New("cluster: a file of the map is damaged")

// A state is what the file of a Machine, and an export of it, hold: the word, the record
// and the map, sealed.
const stateWord = "parley map 1\n"

func appendState(dst []byte, r raft.Record, m *Map) []byte {
	start := len(dst)
	dst = append(dst, stateWord...)
	for _, n := range [...]uint64{r.Index, r.Term, r.ConfigurationIndex} {
		dst = appendNumber(dst, n)
	}
	dst = appendText(dst, r.Configuration)
	return seal(m.append(dst), start)
}

// stateBytesMax bounds a state: a map, and a configuration of a few servers.
const stateBytesMax = MapBytesMax + 64<<10

func parseState(b []byte) (r raft.Record, m *Map, err error) {
	body, ok := unseal(b)
	if !ok || len(body) < len(stateWord) || string(body[:len(stateWord)]) != stateWord {
		return r, nil, fmt.Errorf("%w: checksum or first line", ErrDamaged)
	}
	d := decoder{rest: body[len(stateWord):]}
	r.Index, r.Term, r.ConfigurationIndex = d.number(math.MaxUint64), d.number(math.MaxUint64), d.number(math.MaxUint64)
	r.Configuration = slices.Clone(d.bytes(64 << 10))
	m = d.clusterMap()
	if err := errors.Join(d.end(), m.Check()); err != nil {
		return r, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, m, nil
}

// readFile reads a whole file of bounded size.
func readFile(fs vfs.FS, path string, most int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrDamaged, path, most)
	}
	return b, nil
}

// writeFile makes a file appear whole or not at all, crash or no crash.
func writeFile(fs vfs.FS, path string, b []byte) error {
	f, err := fs.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(slices.Clone(b)) // Write may change its argument
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := fs.OpenDir(fs.PathDir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// WriteMap keeps a copy of a map in a file: what a node that does not vote on the map
// knows when it starts.
func WriteMap(fs vfs.FS, path string, m *Map) error {
	if err := writeFile(fs, path, AppendMap(nil, m)); err != nil {
		return fmt.Errorf("cluster: keep the map: %w", err)
	}
	return nil
}

// ReadMap reads such a copy; the zero Map if there is no file.
func ReadMap(fs vfs.FS, path string) (*Map, error) {
	b, err := readFile(fs, path, MapBytesMax)
	if errors.Is(err, os.ErrNotExist) {
		return &Map{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: read the map: %w", err)
	}
	m, err := ParseMap(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return m, nil
}
