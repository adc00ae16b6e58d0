package storage

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Format is the version of a data directory. It only grows; a directory is brought to the
// newest format that all its readers know, and never back.
type Format int

const (
	// FormatFirst is the format of Parley 0.1: the state store in state/ as KEYS.md gives
	// it, with Pebble at its format 24 (value separation, tables of version 6 or newer whose
	// footer has a checksum), encodings 1 of every record and chunk (1 and 2 of the user index), seal 1; the Raft log in log/.
	FormatFirst Format = 1

	// FormatVersion is the format that this package writes, and the newest that it reads.
	FormatVersion = FormatFirst
)

// Errors of a data directory.
var (
	// ErrNewerFormat reports a directory that a newer Parley has written.
	ErrNewerFormat = errors.New("storage: data directory has a newer format")
	// ErrNotParley reports a folder with files that are not Parley's: it is left alone.
	ErrNotParley = errors.New("storage: not a data directory of Parley")
)

// The format file is one line: the word and the version.
const (
	formatName     = "FORMAT"
	formatNewName  = "FORMAT.new"
	formatWord     = "parley"
	formatBytesMax = 64
)

func appendFormat(dst []byte, f Format) []byte {
	return append(dst, fmt.Sprintf("%s %d\n", formatWord, f)...)
}

func parseFormat(src []byte) (Format, error) {
	line, ok := strings.CutSuffix(string(src), "\n")
	number, word := strings.CutPrefix(line, formatWord+" ")
	n, err := strconv.Atoi(number)
	if !ok || !word || err != nil || n < 1 || strconv.Itoa(n) != number {
		return 0, fmt.Errorf("%w: bad %s file", ErrNotParley, formatName)
	}
	return Format(n), nil
}

// readFormat reads and checks a directory's format.
func readFormat(fs vfs.FS, dir string) error {
	b, err := readFile(fs, fs.PathJoin(dir, formatName), formatBytesMax)
	if err != nil {
		return err
	}
	f, err := parseFormat(b)
	if err != nil {
		return fmt.Errorf("%w: %s", err, dir)
	}
	if f > FormatVersion {
		return fmt.Errorf("%w: %s has format %d, this program knows up to %d: use the program that wrote it",
			ErrNewerFormat, dir, f, FormatVersion)
	}
	return nil
}
