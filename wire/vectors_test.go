package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// update rewrites testdata/vectors and the generated parts of PROTOCOL.md:
//
//	go test ./wire -run 'Vectors|Document' -update
var update = flag.Bool("update", false, "rewrite vectors and the generated tables of PROTOCOL.md")

const vectorsDir = "testdata/vectors"

// A vector is one frame in bytes and in fields.
type vector struct {
	Name      string `json:"name"`
	Direction string `json:"direction"` // client, server or both: who sends it
	Frame     string `json:"frame"`
	Type      Type   `json:"type"`
	Fields    any    `json:"fields"`
	Bytes     string `json:"bytes"`

	raw []byte
}

// An invalidVector is a WebSocket message that a receiver must refuse with Error.
type invalidVector struct {
	Name      string `json:"name"`
	Direction string `json:"direction"`
	Frame     string `json:"frame"` // of the first frame; empty: none that is known
	Error     string `json:"error"`
	Code      Code   `json:"code"`
	Bytes     string `json:"bytes"`
}

// A messageVector is a WebSocket message of several frames; those that may be skipped
// are not among Frames.
type messageVector struct {
	Name      string   `json:"name"`
	Direction string   `json:"direction"`
	Frames    []vector `json:"frames"`
	Bytes     string   `json:"bytes"`
}

type vectorFile[T any] struct {
	Description string `json:"description"`
	Vectors     []T    `json:"vectors"`
}

func writeJSON(t testing.TB, name string, x any) {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(x); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(vectorsDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(vectorsDir, name), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readJSON(t testing.TB, name string, x any) {
	t.Helper()
	if *update {
		updated.Do(func() { updateVectors(t) })
	}
	b, err := os.ReadFile(filepath.Join(vectorsDir, name))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	d.DisallowUnknownFields()
	if err := d.Decode(x); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectorFileOf names the file of a frame's vectors: user_list.json for USER_LIST.
func vectorFileOf(t Type) string { return strings.ToLower(t.String()) + ".json" }

// readVectors reads the valid frames of every file.
func readVectors(t testing.TB) []vector {
	t.Helper()
	var all []vector
	for _, k := range kinds {
		var file vectorFile[vector]
		readJSON(t, vectorFileOf(k.typ), &file)
		for _, v := range file.Vectors {
			v.raw = unhex(t, v.Bytes)
			all = append(all, v)
		}
	}
	return all
}

func makeVector(t testing.TB, name string, x any, typ Type) vector {
	k := kindByType(t, typ)
	b := k.append(nil, x)
	return vector{Name: name, Direction: k.direction, Frame: typ.String(), Type: typ, Fields: fieldsOf(x), Bytes: hex.EncodeToString(b), raw: b}
}

// updated rewrites the vectors once, before any test reads them, if it is asked to.
var updated sync.Once

func updateVectors(t testing.TB) {
	for _, k := range kinds {
		file := vectorFile[vector]{Description: k.typ.String() + ": each frame as fields and as bytes; see PROTOCOL.md, Test vectors."}
		for _, e := range examples {
			if e.typ == k.typ {
				file.Vectors = append(file.Vectors, makeVector(t, e.name, e.value, e.typ))
			}
		}
		writeJSON(t, vectorFileOf(k.typ), file)
	}
	writeJSON(t, "invalid.json", vectorFile[invalidVector]{
		Description: "WebSocket messages that a receiver must refuse, with the code that it gives.", Vectors: invalidVectors(t)})
	writeJSON(t, "messages.json", vectorFile[messageVector]{
		Description: "WebSocket messages of several frames; frames that may be skipped are not listed.", Vectors: messageVectors(t)})
	writeJSON(t, "values.json", valueVectors(t))
}

func TestVectorsAgreeWithTheCodecBothWays(t *testing.T) {
	names := map[string]bool{}
	for _, v := range readVectors(t) {
		k := kindByName(t, v.Frame)
		if names[v.Name] {
			t.Errorf("two vectors named %s", v.Name)
		}
		names[v.Name] = true
		if v.Type != k.typ || v.Direction != k.direction {
			t.Errorf("%s: type %d from %s", v.Name, v.Type, v.Direction)
		}
		x := k.zero()
		setFields(t, x, v.Fields)
		if b := k.append(nil, deref(x)); !bytes.Equal(b, v.raw) {
			t.Errorf("%s: fields give\n%x\nnot\n%x", v.Name, b, v.raw)
		}
		y, err := k.parse(mustFrame(t, v.raw))
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if d := diff(fieldsOf(y), v.Fields); d != "" {
			t.Errorf("%s: %s", v.Name, d)
		}
	}
	if len(names) != len(examples) {
		t.Errorf("%d vectors for %d examples: run with -update", len(names), len(examples))
	}
}

func TestVectorsCoverEveryFrame(t *testing.T) {
	seen := map[string]int{}
	for _, v := range readVectors(t) {
		seen[v.Frame]++
	}
	for _, k := range kinds {
		if seen[k.typ.String()] == 0 {
			t.Errorf("no vector of %v", k.typ)
		}
	}
}

// decodeMessage reads a whole WebSocket message as a receiver does, and tells the code
// that it refuses it with, 0 if it does not.
func decodeMessage(t testing.TB, b []byte) (frames []vector, code Code) {
	for len(b) > 0 {
		f, rest, err := NextFrame(b)
		if err != nil {
			return frames, CodeOf(err)
		}
		b = rest
		if !f.Type.Known() {
			if f.Type.Critical() {
				return frames, CodeUnknownFrame
			}
			continue
		}
		k := kindByType(t, f.Type)
		x, err := k.parse(f)
		if err != nil {
			return frames, CodeOf(err)
		}
		frames = append(frames, makeVector(t, "", x, f.Type))
	}
	return frames, 0
}

func TestVectorsOfInvalidMessagesAreRefusedWithTheirCode(t *testing.T) {
	var file vectorFile[invalidVector]
	readJSON(t, "invalid.json", &file)
	for _, v := range file.Vectors {
		_, code := decodeMessage(t, unhex(t, v.Bytes))
		if code != v.Code || code.String() != v.Error {
			t.Errorf("%s: %v, want %s (%d)", v.Name, code, v.Error, v.Code)
		}
	}
	if want := invalidVectors(t); diff(file.Vectors, want) != "" {
		t.Error("invalid.json is not what the test makes: run with -update")
	}
}

func TestVectorsOfMessagesSplitIntoTheirFrames(t *testing.T) {
	var file vectorFile[messageVector]
	readJSON(t, "messages.json", &file)
	for _, v := range file.Vectors {
		frames, code := decodeMessage(t, unhex(t, v.Bytes))
		if code != 0 || len(frames) != len(v.Frames) {
			t.Errorf("%s: %d frames, %v", v.Name, len(frames), code)
			continue
		}
		for i, f := range frames {
			if f.Frame != v.Frames[i].Frame || f.Type != v.Frames[i].Type || diff(f.Fields, v.Frames[i].Fields) != "" {
				t.Errorf("%s: frame %d is %v", v.Name, i, f)
			}
		}
	}
}
