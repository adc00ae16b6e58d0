package wire

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const documentFile = "PROTOCOL.md"

// limitConstants reads every constant of limits.go, so that none can be left out of the
// document: names as the protocol writes them, values as uint64 or string.
func limitConstants(t testing.TB) map[string]any {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "limits.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	info := types.Info{Defs: map[*ast.Ident]types.Object{}}
	if _, err := new(types.Config).Check("wire", files, []*ast.File{file}, &info); err != nil {
		t.Fatal(err)
	}
	limits := map[string]any{}
	for name, object := range info.Defs {
		c, ok := object.(*types.Const)
		if !ok {
			continue
		}
		if c.Val().Kind() == constant.String {
			limits[snake(name.Name)] = constant.StringVal(c.Val())
			continue
		}
		n, exact := constant.Uint64Val(c.Val())
		if !exact {
			t.Fatalf("%s is no number", name.Name)
		}
		limits[snake(name.Name)] = n
	}
	return limits
}

func sortedCodes() []Code { return slices.Sorted(maps.Keys(codeNames)) }

// readDocument reads PROTOCOL.md, its generated parts rewritten first if that is asked for.
func readDocument(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		text := replacePart(t, string(b), "sizes", sizesPart())
		text = replacePart(t, text, "exchange", exchangePart(t))
		if err := os.WriteFile(documentFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return text
	}
	return string(b)
}

// partOf finds what stands between the marks of a generated part.
func partOf(t testing.TB, text, name string) (from, to int) {
	t.Helper()
	begin, end := "<!-- begin:"+name+" -->\n", "<!-- end:"+name+" -->"
	from, to = strings.Index(text, begin), strings.Index(text, end)
	if from < 0 || to < from {
		t.Fatalf("no part %s", name)
	}
	return from + len(begin), to
}

func replacePart(t testing.TB, text, name, part string) string {
	from, to := partOf(t, text, name)
	return text[:from] + part + text[to:]
}

// section is the text from a heading to the next one of the same or a higher level.
func section(t testing.TB, text, heading string) string {
	t.Helper()
	start := strings.Index(text, "\n"+heading)
	if start < 0 {
		t.Fatalf("no heading %q", heading)
	}
	start++
	level := heading[:strings.Index(heading, " ")]
	rest := text[start+len(heading):]
	end := len(rest)
	for l := 2; l <= len(level); l++ {
		if i := strings.Index(rest, "\n"+strings.Repeat("#", l)+" "); i >= 0 {
			end = min(end, i)
		}
	}
	return rest[:end]
}

// rows are the rows of a section's tables that have this many cells. Byte boxes are
// indented and do not count.
func rows(text string, cells int) [][]string {
	var all [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		row := strings.Split(strings.Trim(line, "|"), "|")
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
		if len(row) == cells {
			all = append(all, row)
		}
	}
	return all
}

func TestDocumentListsEveryFrame(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range rows(section(t, readDocument(t), "## 13 Frame reference"), 5) {
		if row[0] == "type" {
			continue
		}
		k := kindByName(t, row[1])
		must := map[bool]string{true: "yes", false: "no"}[k.typ.Critical()]
		if row[0] != strconv.Itoa(int(k.typ)) || row[2] != k.direction || row[4] != must {
			t.Errorf("%v; the code says type %d from %s, must be understood: %s", row, k.typ, k.direction, must)
		}
		seen[row[1]] = true
	}
	for _, k := range kinds {
		if !seen[k.typ.String()] {
			t.Errorf("%v is not in the table", k.typ)
		}
	}
}

// fieldNames are the protocol's names of a type's fields, those of its parts included.
func fieldNames(t reflect.Type, names map[string]bool) map[string]bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return fieldNames(t.Elem(), names)
	case reflect.Struct:
		if t == reflect.TypeFor[Content]() {
			return names
		}
		for i := range t.NumField() {
			names[snake(t.Field(i).Name)] = true
			fieldNames(t.Field(i).Type, names)
		}
	}
	return names
}

func TestDocumentDescribesEveryField(t *testing.T) {
	text := readDocument(t)
	for _, k := range kinds {
		part := section(t, text, fmt.Sprintf("### %s (%d)\n", k.typ, k.typ))
		described := map[string]bool{}
		for _, row := range rows(part, 4) {
			if name := strings.Trim(row[0], "`"); name != row[0] {
				described[name] = true
			}
		}
		want := fieldNames(reflect.TypeOf(k.zero()), map[string]bool{})
		for name := range want {
			if !described[name] {
				t.Errorf("%v: field %s is not described", k.typ, name)
			}
		}
		for name := range described {
			if !want[name] && name != "parts" {
				t.Errorf("%v: there is no field %s", k.typ, name)
			}
		}
	}
}

func TestDocumentListsEveryCode(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range rows(section(t, readDocument(t), "## 15 Codes"), 5) {
		n, err := strconv.Atoi(row[0])
		if err != nil {
			continue
		}
		if c := Code(n); row[1] != c.String() || row[2] != strconv.Itoa(int(c.CloseCode())) {
			t.Errorf("%v; the code says %v", row, c)
		}
		seen[row[1]] = true
	}
	for code, name := range codeNames {
		if !seen[name] {
			t.Errorf("%s (%d) is not in the table", name, code)
		}
	}
}

func TestDocumentListsEveryEventAndRole(t *testing.T) {
	text := readDocument(t)
	seen := map[string]bool{}
	for _, row := range rows(section(t, text, "### Changes are messages"), 5) {
		n, err := strconv.Atoi(row[0])
		if err != nil {
			continue
		}
		kind := EventKind(n)
		least, most := kind.users()
		users := map[bool]string{true: fmt.Sprintf("users (%d)", most), false: fmt.Sprintf("users (%d to %d)", least, most)}[least == most]
		if row[1] != kind.String() || (most > 0) != strings.Contains(row[2], users) ||
			kind.hasFlags() != strings.Contains(row[2], "flags") || (kind == EventRole) != strings.HasPrefix(row[2], "role") {
			t.Errorf("%v; the code says %v of %s", row, kind, users)
		}
		seen[row[1]] = true
	}
	for _, kind := range eventKinds {
		if !seen[kind.String()] {
			t.Errorf("%v is not in the table", kind)
		}
	}
	part := section(t, text, "### Flags and roles")
	for role := RoleReader; role <= RoleOwner; role++ {
		if !strings.Contains(part, fmt.Sprintf("\n| %d | %v |", role, role)) {
			t.Errorf("%v is not in the table", role)
		}
	}
}

func TestDocumentListsEveryLimit(t *testing.T) {
	documented := map[string]string{}
	for _, row := range rows(section(t, readDocument(t), "## 16 Limits"), 4) {
		if name := strings.Trim(row[0], "`"); name != row[0] {
			documented[name] = strings.ReplaceAll(row[1], ",", "")
			if strings.Contains(name, "_bytes_") != (row[2] == "bytes") || strings.Contains(name, "seconds") != (row[2] == "seconds") {
				t.Errorf("%s is in %s", name, row[2])
			}
		}
	}
	for name, value := range limitConstants(t) {
		if documented[name] != fmt.Sprint(value) {
			t.Errorf("%s is %v, the document says %q", name, value, documented[name])
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("there is no limit %s", name)
	}
}

func TestDocumentShowsTheSizesAndTheExample(t *testing.T) {
	text := readDocument(t)
	for name, want := range map[string]string{"sizes": sizesPart(), "exchange": exchangePart(t)} {
		if from, to := partOf(t, text, name); text[from:to] != want {
			t.Errorf("%s is not what the code gives: run with -update", name)
		}
	}
}

func TestDocumentReservesWhatTheCodeDoesNotUse(t *testing.T) {
	part := section(t, readDocument(t), "## 20 Reserved")
	for _, row := range rows(part, 3) {
		for _, word := range strings.FieldsFunc(row[0], func(r rune) bool { return r < '0' || r > '9' }) {
			if n, _ := strconv.Atoi(word); Type(n).Known() {
				t.Errorf("type %d is reserved and used: %v", n, row)
			}
		}
	}
}

// webSocketBytes is a message with its WebSocket header: a client masks with four bytes.
func webSocketBytes(payload int, client bool) int {
	header := 2
	if payload > 125 {
		header = 4
	}
	if client {
		header += 4
	}
	return header + payload
}

// hotSizes are the frames of one exchanged message, as DESIGN counts them.
func hotSizes() (names []string, frames, total []int) {
	for _, h := range hotFrames[:5] {
		n := len(h.append(nil))
		names, frames = append(names, h.name), append(frames, n)
		total = append(total, webSocketBytes(n, h.name == "SEND" || h.name == "CURSOR"))
	}
	return names, frames, total
}

func sizesPart() string {
	var b strings.Builder
	b.WriteString("\n| frame | bytes | with WebSocket header |\n|---|---|---|\n")
	names, frames, total := hotSizes()
	sumFrames, sum := 0, 0
	for i, name := range names {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", name, frames[i], total[i])
		sumFrames, sum = sumFrames+frames[i], sum+total[i]
	}
	fmt.Fprintf(&b, "| together | %d | %d |\n", sumFrames, sum)
	up, down := resumeSizes()
	fmt.Fprintf(&b, "\nA resume in which nothing has changed, with a ticket of 36 bytes and a token of 24: %d bytes up (HELLO, SYNC) and %d down (WELCOME,\n"+
		"CONVERSATIONS), %d in all; %d when the server leaves the token out of its answer.\n\n", up, down, up+down, up+down-len(token24))
	return b.String()
}

func resumeSizes() (up, down int) {
	hello := helloWithTicket()
	b := AppendSync(AppendHello(nil, &hello), &Sync{Correlation: 1, Limit: 100, Token: token24})
	up = webSocketBytes(len(b), true)
	b = nil
	for _, p := range resumed() {
		for _, k := range kinds {
			if k.typ == p.typ {
				b = k.append(b, p.value)
			}
		}
	}
	return up, webSocketBytes(len(b), false)
}

func TestSizesOfTheHotFrames(t *testing.T) {
	names, _, total := hotSizes()
	sum := 0
	for i, want := range []int{39, 14, 41, 17, 19} {
		if total[i] != want {
			t.Errorf("%s: %d bytes, want %d", names[i], total[i], want)
		}
		sum += total[i]
	}
	if sum != 130 {
		t.Errorf("%d bytes for an exchange, want 130", sum)
	}
}

func TestAResumeWithNothingChangedIsSmall(t *testing.T) {
	if up, down := resumeSizes(); up+down > 172 {
		t.Errorf("%d bytes up, %d down", up, down)
	}
}

func TestAConversationThatChangedIsSmall(t *testing.T) {
	quiet := bobsState()
	busy := quiet
	busy.Unread, busy.Read, busy.Head, busy.Revision = 200, 799, 20_000, 20_001
	if n := len(AppendConversationState(nil, &quiet)); n > 23 {
		t.Errorf("%d bytes", n)
	}
	busy.Delivered, busy.OtherDelivered, busy.OtherRead = busy.Head, busy.Head, busy.Head
	busy.Read = busy.Head - 200
	if n := len(AppendConversationState(nil, &busy)); n > 26 {
		t.Errorf("%d bytes with 200 unread", n)
	}
}

// exchangePart shows the vectors of the example as hexadecimal, a paragraph a message.
func exchangePart(t testing.TB) string {
	var file vectorFile[messageVector]
	readJSON(t, "messages.json", &file)
	var b bytes.Buffer
	for _, v := range file.Vectors {
		name, ok := strings.CutPrefix(v.Name, "exchange ")
		if !ok {
			continue
		}
		raw := unhex(t, v.Bytes)
		fmt.Fprintf(&b, "\n%s: %d bytes, %d with the WebSocket header\n\n", name, len(raw), webSocketBytes(len(raw), v.Direction == "client"))
		for len(raw) > 0 {
			f, rest, err := NextFrame(raw)
			if err != nil {
				t.Fatal(err)
			}
			label := f.Type.String()
			for line := range slices.Chunk(raw[:len(raw)-len(rest)], 32) {
				fmt.Fprintf(&b, "    %-14s%x\n", label, line)
				label = ""
			}
			raw = rest
		}
	}
	b.WriteString("\n")
	return b.String()
}
