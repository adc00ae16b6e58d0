package wire

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// The vectors show a frame as JSON: names as in PROTOCOL.md, numbers up to 2^32 as
// numbers and greater ones as decimal strings, bytes as hexadecimal strings, texts as
// strings, a content as {extended, bytes}, what is absent as null. Which of these a
// string is follows from the field.
const plainNumberMax = 1 << 32

// snake turns a Go field name into the protocol's: RetryAfterMS is retry_after_ms.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func number(n uint64) any {
	if n > plainNumberMax {
		return strconv.FormatUint(n, 10)
	}
	return json.Number(strconv.FormatUint(n, 10))
}

// fieldsOf renders a value of the codec for JSON.
func fieldsOf(x any) any { return render(reflect.ValueOf(x)) }

func render(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool()
	case reflect.String:
		return v.String()
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return render(v.Elem())
	case reflect.Slice:
		if b, ok := v.Interface().([]byte); ok {
			return hex.EncodeToString(b)
		}
		items := make([]any, 0, v.Len())
		for i := range v.Len() {
			items = append(items, render(v.Index(i)))
		}
		return items
	case reflect.Array:
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		return hex.EncodeToString(b)
	case reflect.Struct:
		fields := map[string]any{}
		for i := range v.NumField() {
			fields[snake(v.Type().Field(i).Name)] = render(v.Field(i))
		}
		return fields
	default:
		return number(v.Uint())
	}
}

// setFields is the way back: it fills the value that dst points to.
func setFields(t testing.TB, dst any, fields any) {
	t.Helper()
	if err := fill(reflect.ValueOf(dst).Elem(), fields); err != nil {
		t.Fatalf("%T from %v: %v", dst, fields, err)
	}
}

func fill(v reflect.Value, x any) error {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(x.(bool))
	case reflect.String:
		v.SetString(x.(string))
	case reflect.Pointer:
		if x == nil {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem(), x)
	case reflect.Slice:
		return fillSlice(v, x)
	case reflect.Array:
		b, err := hex.DecodeString(x.(string))
		if err != nil || len(b) != v.Len() {
			return fmt.Errorf("%v is not %d bytes: %w", x, v.Len(), err)
		}
		reflect.Copy(v, reflect.ValueOf(b))
	case reflect.Struct:
		fields := x.(map[string]any)
		if len(fields) != v.NumField() {
			return fmt.Errorf("%d fields for %v", len(fields), v.Type())
		}
		for i := range v.NumField() {
			name := snake(v.Type().Field(i).Name)
			field, ok := fields[name]
			if !ok {
				return fmt.Errorf("no field %s", name)
			}
			if err := fill(v.Field(i), field); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	default:
		n, err := strconv.ParseUint(fmt.Sprint(x), 10, 64)
		if err != nil {
			return err
		}
		v.SetUint(n)
	}
	return nil
}

func fillSlice(v reflect.Value, x any) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		b, err := hex.DecodeString(x.(string))
		v.SetBytes(b)
		return err
	}
	for _, item := range x.([]any) {
		element := reflect.New(v.Type().Elem()).Elem()
		if err := fill(element, item); err != nil {
			return err
		}
		v.Set(reflect.Append(v, element))
	}
	return nil
}

// footprint is how many bytes a parsed value holds besides its own struct, as far as
// they are not the frame's own: what a hostile frame can make a receiver allocate.
func footprint(x any) int { return held(reflect.ValueOf(x)) }

func held(v reflect.Value) int {
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Pointer:
		if v.IsNil() {
			return 0
		}
		return int(v.Type().Elem().Size()) + held(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return 0 // aliases the frame
		}
		sum := v.Cap() * int(v.Type().Elem().Size())
		for i := range v.Len() {
			sum += held(v.Index(i))
		}
		return sum
	case reflect.Struct:
		sum := 0
		for i := range v.NumField() {
			sum += held(v.Field(i))
		}
		return sum
	}
	return 0
}

func TestFieldNamesAreTheProtocols(t *testing.T) {
	for name, want := range map[string]string{
		"RetryAfterMS": "retry_after_ms", "ID": "id", "OutboxEpoch": "outbox_epoch", "SpreadMS": "spread_ms", "Ref": "ref",
	} {
		if got := snake(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
