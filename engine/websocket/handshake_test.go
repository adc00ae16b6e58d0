package websocket

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// ask makes a request of the usual headers with some changed: "Name: value" replaces or
// adds, "Name:" removes.
func ask(line string, changes ...string) string {
	headers := []string{"Host: chat.example", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: parley.v1"}
	for _, change := range changes {
		name, value, _ := strings.Cut(change, ":")
		kept := headers[:0]
		for _, h := range headers {
			if !strings.HasPrefix(h, name+":") {
				kept = append(kept, h)
			}
		}
		if headers = kept; strings.TrimSpace(value) != "" {
			headers = append(headers, change)
		}
	}
	return line + "\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
}

const get = "GET /v1/socket HTTP/1.1"

func TestHandshakes(t *testing.T) {
	noEvil := func(origin []byte) bool { return string(origin) != "https://evil.example" }
	for _, test := range []struct {
		name    string
		request string
		status  int
	}{
		{"usual", ask(get), 101},
		{"root", ask("GET / HTTP/1.1"), 101},
		{"query", ask("GET /?x=1 HTTP/1.1"), 101},
		{"several subprotocols", ask(get, "Sec-WebSocket-Protocol: other, parley.v1"), 101},
		{"extensions are not taken", ask(get, "Sec-WebSocket-Extensions: permessage-deflate"), 101},
		{"forwarding headers are ignored", ask(get, "X-Forwarded-For: 1.2.3.4", "X-Real-IP: nonsense"), 101},
		{"connection with keep-alive", ask(get, "Connection: keep-alive, Upgrade"), 101},
		{"upgrade in capitals", ask(get, "Upgrade: WebSocket"), 101},
		{"good origin", ask(get, "Origin: https://chat.example"), 101},

		{"bad origin", ask(get, "Origin: https://evil.example"), 403},
		{"other path", ask("GET /v1/socket/ HTTP/1.1"), 404},
		{"no path", ask("GET * HTTP/1.1"), 404},
		{"POST", ask("POST /v1/socket HTTP/1.1"), 405},
		{"unknown method", ask("GETT /v1/socket HTTP/1.1"), 405},
		{"no upgrade", ask(get, "Upgrade:"), 426},
		{"upgrade to something else", ask(get, "Upgrade: h2c"), 426},
		{"no connection header", ask(get, "Connection:"), 426},
		{"connection close", ask(get, "Connection: close"), 426},
		{"version 8", ask(get, "Sec-WebSocket-Version: 8"), 426},
		{"no version", ask(get, "Sec-WebSocket-Version:"), 400},
		{"no key", ask(get, "Sec-WebSocket-Key:"), 400},
		{"short key", ask(get, "Sec-WebSocket-Key: abc"), 400},
		{"no host", ask(get, "Host:"), 400},
		{"no subprotocol", ask(get, "Sec-WebSocket-Protocol:"), 400},
		{"other subprotocol", ask(get, "Sec-WebSocket-Protocol: parley.v2"), 400},
		{"malformed subprotocol", ask(get, "Sec-WebSocket-Protocol: ,;,"), 400},
		{"line without a colon", strings.Replace(ask(get), "Host: ", "Host ", 1), 400},
		{"HTTP/1.0", ask("GET / HTTP/1.0"), 505},
		{"HTTP/2", ask("GET / HTTP/2.0"), 505},
		{"no HTTP version", ask("GET /"), 400},
		{"empty request line", "GET\r\n\r\n", 400},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
		{"PROXY header in binary", "\r\n\r\n\x00\r\nQUIT\n", 400},
		{"endless header", get + "\r\nX: " + strings.Repeat("x", RequestBytesMax), 431},
		{"header of 4097 bytes", sized(RequestBytesMax + 1), 431},
		{"header of 4096 bytes", sized(RequestBytesMax), 101},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := NewHandshaker("parley.v1", noEvil)
			response, used, err := h.Upgrade(nil, []byte(test.request))
			r, body := readResponse(t, response)
			if r.StatusCode != test.status {
				t.Fatalf("status %d %q, want %d", r.StatusCode, body, test.status)
			}
			if test.status == 101 {
				if err != nil || used != len(test.request) {
					t.Errorf("used %d of %d, %v", used, len(test.request), err)
				}
				checkUpgraded(t, r)
				return
			}
			if err == nil || err.Status != test.status || body != err.Reason+"\n" || !r.Close {
				t.Errorf("error %v, body %q, closes %v", err, body, r.Close)
			}
			if test.status == 426 && (r.Header.Get("Sec-WebSocket-Version") != "13" || r.Header.Get("Upgrade") != "websocket") {
				t.Errorf("426 does not say to what: %v", r.Header)
			}
			if test.status == 405 && r.Header.Get("Allow") != "GET" {
				t.Errorf("405 does not say what is allowed: %v", r.Header)
			}
		})
	}
}

// sized is a request of exactly n bytes.
func sized(n int) string {
	pad := n - len(ask(get, "X-Pad: p")) + 1
	return ask(get, "X-Pad: "+strings.Repeat("p", pad))
}

func readResponse(t *testing.T, response []byte) (*http.Response, string) {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(response)), nil)
	if err != nil {
		t.Fatalf("%v in %q", err, response)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}

func checkUpgraded(t *testing.T, r *http.Response) {
	t.Helper()
	for name, want := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Protocol": "parley.v1", "Sec-WebSocket-Extensions": "",
		"Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", // the example of RFC 6455, section 1.3
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestHandshakeWaitsForTheWholeRequest(t *testing.T) {
	h := NewHandshaker("parley.v1", nil)
	request := ask(get)
	for n := range request {
		if response, used, err := h.Upgrade(nil, []byte(request[:n])); len(response) > 0 || used > 0 || err != nil {
			t.Fatalf("with %d of %d bytes: %q, %d, %v", n, len(request), response, used, err)
		}
	}
	response, used, err := h.Upgrade([]byte("kept"), []byte(request+"frames"))
	if err != nil || used != len(request) || !bytes.HasPrefix(response, []byte("keptHTTP/1.1 101 ")) {
		t.Errorf("%q, %d of %d, %v", response, used, len(request), err)
	}
}

func TestHandshakerForgetsTheLastRequest(t *testing.T) {
	h := NewHandshaker("parley.v1", nil)
	for _, test := range []struct {
		request string
		ok      bool
	}{{ask(get), true}, {ask(get, "Sec-WebSocket-Protocol:"), false}, {ask("GET /x HTTP/1.1"), false}, {ask(get), true}} {
		response, _, err := h.Upgrade(nil, []byte(test.request))
		if r, _ := readResponse(t, response); (r.StatusCode == 101) != test.ok || (err == nil) != test.ok {
			t.Errorf("%q: %d %v", test.request, r.StatusCode, err)
		}
	}
}

func TestHandshakeWithoutASubprotocol(t *testing.T) {
	h := NewHandshaker("", nil)
	for _, request := range []string{ask(get), ask(get, "Sec-WebSocket-Protocol:")} {
		response, _, err := h.Upgrade(nil, []byte(request))
		if r, _ := readResponse(t, response); err != nil || r.StatusCode != 101 || r.Header.Get("Sec-WebSocket-Protocol") != "" {
			t.Errorf("%v %v", r, err)
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	h := NewHandshaker("parley.v1", nil)
	request := []byte(ask(get))
	var response []byte
	b.ReportAllocs()
	for b.Loop() {
		response, _, _ = h.Upgrade(response[:0], request)
	}
}

func BenchmarkDecode(b *testing.B) {
	d := Decoder{MessageBytesMax: maxLen}
	var f Fragments
	one := masked(fin|opBinary, strings.Repeat("a", 64))
	frames := []byte(strings.Repeat(one, 16))
	data := make([]byte, len(frames))
	b.SetBytes(int64(len(frames)))
	for b.Loop() {
		copy(data, frames)
		for rest := data; len(rest) > 0; {
			e, err := d.Next(rest, &f)
			if err != nil {
				b.Fatal(err)
			}
			rest = rest[e.Used:]
		}
	}
}
