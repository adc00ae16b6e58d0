package chat

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/cmd/parley/internal/vt"
	"parley/engine"
	"parley/wire"
	"parley/wire/client"
)

// bound is how long a test waits for what must come.
const bound = 3 * time.Minute

func startNode(t *testing.T, dir, listen string) *engine.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	n, err := engine.Open(ctx, engine.Config{Data: dir, Listen: listen, Shards: 2, Loops: 1, ConnectionsMax: 100,
		Fatal: func(err error) { panic(err) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ada", "bob", "carol"} {
		// An old directory has them.
		_, _ = n.CreateUser(ctx, name, nil)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func dial(t *testing.T, n *engine.Node, name string) *client.Client {
	t.Helper()
	token, err := n.Token(t.Context(), name, 0, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	c, err := client.Open(ctx, client.Options{Address: "ws://" + n.Address().String(), Begin: client.BeginRead,
		Token: func(context.Context) (string, error) { return token.Text, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// consume reads a client's events, as a program must for cursors to move.
func consume(c *client.Client) {
	go func() {
		for range c.Events() {
		}
	}()
}

// A chatUnderTest is a running chat with a screen or a text to look at.
type chatUnderTest struct {
	mu    sync.Mutex
	text  strings.Builder // of a plain view
	vt    *vt.Screen      // of a terminal
	input chan Input
	ended chan error
}

func (c *chatUnderTest) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vt != nil {
		return c.vt.Write(b)
	}
	return c.text.Write(b)
}

func (c *chatUnderTest) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vt != nil {
		return c.vt.String()
	}
	return c.text.String()
}

func (c *chatUnderTest) style(text string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	style, _ := c.vt.Style(text)
	return style
}

// until waits for a condition.
func (c *chatUnderTest) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(bound); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come; there is\n%s", what, c)
		}
	}
}

func (c *chatUnderTest) shows(t *testing.T, text string) {
	t.Helper()
	c.until(t, fmt.Sprintf("%q", text), func() bool { return strings.Contains(c.String(), text) })
}

func (c *chatUnderTest) write(text string) { c.input <- Input{Bytes: []byte(text)} }

func (c *chatUnderTest) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.ended:
		return err
	case <-time.After(bound):
		t.Fatalf("the chat does not end; there is\n%s", c)
		return nil
	}
}

func runChat(t *testing.T, cl *client.Client, config Config, terminal bool) *chatUnderTest {
	t.Helper()
	c := &chatUnderTest{input: make(chan Input), ended: make(chan error, 1)}
	if terminal {
		c.vt = vt.New(70, 20)
		config.View = NewTerminal(c, 70, 20, true)
	} else {
		config.View = NewPlain(c)
	}
	config.Client, config.Input = cl, c.input
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { c.ended <- Run(ctx, config) }()
	return c
}

func idOf(t *testing.T, c *client.Client, name string) wire.ID {
	t.Helper()
	users, err := c.Resolve(t.Context(), name)
	if err != nil || len(users) != 1 {
		t.Fatalf("%v, %v", users, err)
	}
	return users[0].ID
}

func TestTicksOfAPlainChatComeInOrderAndDecideItsEnd(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	bob := dial(t, n, "bob")
	ada := runChat(t, dial(t, n, "ada"), Config{With: "bob", Until: Read, History: 20}, false)
	ada.write("hello\nand ")
	ada.write("more\n//slash")
	ada.write("") // the end
	ada.shows(t, "#3 sent")
	consume(bob)
	ada.shows(t, "#3 delivered")
	select {
	case err := <-ada.ended:
		t.Fatalf("ended before all was read: %v\n%s", err, ada)
	default:
	}
	if err := bob.Read(wire.DirectRef(idOf(t, bob, "ada")), 3); err != nil {
		t.Fatal(err)
	}
	if err := ada.end(t); err != nil {
		t.Error(err)
	}
	text := ada.String()
	for i := 1; i <= 3; i++ {
		last := -1
		for _, s := range []Status{Sent, Delivered, Read} {
			at := strings.Index(text, fmt.Sprintf("#%d %v\n", i, s))
			if at <= last {
				t.Errorf("#%d %v is at %d, after %d", i, s, at, last)
			}
			last = at
		}
	}
	page, err := bob.History(t.Context(), wire.History{Ref: wire.DirectRef(idOf(t, bob, "ada"))})
	if err != nil || len(page.Messages) != 3 || string(page.Messages[1].Content.Bytes) != "and more" || string(page.Messages[2].Content.Bytes) != "/slash" {
		t.Errorf("%v, %v", page.Messages, err)
	}
}

func TestTerminalShowsHistoryTypingTicksAndKeepsTheLine(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	bob := dial(t, n, "bob")
	consume(bob)
	ref := wire.DirectRef(idOf(t, bob, "ada"))
	if _, err := bob.Send(t.Context(), ref, wire.Text("from before")); err != nil {
		t.Fatal(err)
	}
	ada := runChat(t, dial(t, n, "ada"), Config{With: "bob", History: 20}, true)
	ada.shows(t, "   bob: from before")
	ada.write("hello bob\r")
	ada.shows(t, "✓✓ ada: hello bob")
	if style := ada.style("✓✓"); style != "2" {
		t.Errorf("delivered has style %q", style)
	}
	if err := bob.Read(ref, 2); err != nil {
		t.Fatal(err)
	}
	ada.until(t, "the colour of read", func() bool { return ada.style("✓✓") == "1;36" })

	ada.write("half a li")
	if err := bob.Typing(ref); err != nil {
		t.Fatal(err)
	}
	ada.shows(t, "bob is writing …\n> half a li")
	if _, err := bob.Send(t.Context(), ref, wire.Text("I interrupt")); err != nil {
		t.Fatal(err)
	}
	ada.shows(t, "bob: I interrupt\n\n> half a li") // and is no longer writing
	ada.write("ne\r")
	ada.shows(t, "ada: half a line\n\n>")
	ada.write("\x03")
	if err := ada.end(t); err != nil {
		t.Error(err)
	}
}

func TestMessagesOfOtherDevicesAndConversations(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	phone, carol := dial(t, n, "ada"), dial(t, n, "carol")
	consume(phone)
	consume(carol)
	ada := runChat(t, dial(t, n, "ada"), Config{With: "bob", History: 20}, false)
	ada.shows(t, "ada and bob")
	if _, err := phone.Send(t.Context(), wire.DirectRef(idOf(t, phone, "bob")), wire.Text("from my phone")); err != nil {
		t.Fatal(err)
	}
	ada.shows(t, "#1 ada: from my phone\n#1 sent\n")
	if _, err := carol.Send(t.Context(), wire.DirectRef(idOf(t, carol, "ada")), wire.Text("it is me")); err != nil {
		t.Fatal(err)
	}
	ada.shows(t, "* carol writes to you; /with carol answers")
	ada.write("/list\n")
	ada.shows(t, "carol                1 messages, 1 unread")
	ada.write("/with carol\nhello carol\n")
	ada.shows(t, "#1 carol: it is me")
	ada.shows(t, "#2 delivered")
	ada.write("/with nobody\n/with\n/with ada\n/foo\n/history 0\n/status\n/help\nstill carol\n")
	for _, want := range []string{`there is no such user: "nobody"`, "Say with whom", "nobody chats with oneself", "There is no command /foo",
		"/history takes a number", "ada, user ", "show the commands", "#3 delivered"} {
		ada.shows(t, want)
	}
	ada.write("/quit\n")
	if err := ada.end(t); err != nil {
		t.Error(err)
	}
}

func TestHistoryGoesBackPageByPage(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	bob := dial(t, n, "bob")
	consume(bob)
	for i := range 8 {
		if _, err := bob.Send(t.Context(), wire.DirectRef(idOf(t, bob, "ada")), wire.Text(fmt.Sprint("message ", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	ada := runChat(t, dial(t, n, "ada"), Config{With: "bob", History: 3}, false)
	ada.shows(t, "the last 3 of 8 messages")
	ada.shows(t, "#8 bob")
	if strings.Contains(ada.String(), "#5 bob") {
		t.Errorf("more than was asked for:\n%s", ada)
	}
	ada.write("/history 3\n")
	ada.shows(t, "#5 bob: message 5")
	ada.write("/history\n")
	ada.shows(t, "#1 bob: message 1\n")
	ada.write("/history\n")
	ada.shows(t, "That is all there is")
	if strings.Count(ada.String(), "bob: message ") != 8 {
		t.Errorf("not each once:\n%s", ada)
	}
	// What was seen is read, also for the other.
	ada.until(t, "the read cursor", func() bool {
		states := bob.Conversations()
		return len(states) == 1 && states[0].OtherRead == 8
	})
}

func TestOfflineIsSaidAndWhatIsWrittenIsSentLater(t *testing.T) {
	dir := t.TempDir()
	n := startNode(t, dir, "127.0.0.1:0")
	address := n.Address().String()
	ada := runChat(t, dial(t, n, "ada"), Config{With: "bob", Until: Sent, History: 20}, false)
	ada.shows(t, "ada and bob")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	ada.shows(t, "* offline")
	ada.write("meanwhile\n/quit\n") // leaves when it is sent
	ada.write("")
	startNode(t, dir, address)
	ada.shows(t, "#1 sent")
	if err := ada.end(t); err != nil {
		t.Error(err)
	}
}

func TestLeavingWithUnsentMessagesTakesTwoAttempts(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	ada := runChat(t, dial(t, n, "ada"), Config{With: "bob", History: 20}, true)
	ada.shows(t, "ada and bob")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	ada.shows(t, "offline")
	ada.write("lost?\r")
	ada.shows(t, "…  ada: lost?")
	ada.write("\x03")
	ada.shows(t, "not yet on the server: 1 of your messages")
	ada.write("\x03")
	if err := ada.end(t); !errors.Is(err, ErrUnsent) {
		t.Error(err)
	}
}

func TestWhoCannotBeFoundEndsTheChat(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	for with, want := range map[string]error{"nobody": ErrUnknownUser, "ada": ErrSelf} {
		ada := runChat(t, dial(t, n, "ada"), Config{With: with, Until: Sent}, false)
		if err := ada.end(t); !errors.Is(err, want) {
			t.Errorf("with %s: %v", with, err)
		}
	}
	// A message to nobody in particular is not sent, and said so.
	ada := runChat(t, dial(t, n, "ada"), Config{Until: Sent}, false)
	ada.write("hello?\n")
	ada.write("")
	if err := ada.end(t); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	// One that is too long is refused, and the rest is sent.
	ada = runChat(t, dial(t, n, "ada"), Config{With: "bob", Until: Sent}, false)
	ada.write(strings.Repeat("x", wire.ContentBytesMax+1) + "\nshort\n")
	ada.write("")
	if err := ada.end(t); !errors.Is(err, ErrRefused) || !strings.Contains(ada.String(), "#1 sent") || !strings.Contains(ada.String(), "! failed: xxx") {
		t.Errorf("%v\n%.300s", err, ada)
	}
}

func TestADeviceThatConnectsAgainReplacesTheChat(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	c := dial(t, n, "ada")
	ada := runChat(t, c, Config{With: "bob", History: 20}, false)
	ada.shows(t, "ada and bob")
	token, err := n.Token(t.Context(), "ada", c.Device(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.Open(t.Context(), client.Options{Address: "ws://" + n.Address().String(),
		Token: func(context.Context) (string, error) { return token.Text, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	var refused *wire.Error
	if err := ada.end(t); !errors.As(err, &refused) || refused.Code != wire.CodeReplaced {
		t.Errorf("%v", err)
	}
}

func TestContentThatMustBeUnderstoodIsNotShown(t *testing.T) {
	extended := func(tag wire.Tag) wire.Content {
		return wire.Content{Extended: true, Bytes: wire.AppendContent(nil, wire.AppendExtension(nil, tag, []byte("v")), []byte("body"))}
	}
	for _, c := range []struct {
		content wire.Content
		want    string
	}{
		{wire.Text("plain"), "plain"},
		{extended(wire.TagReplyTo), "body"},
		{extended(wire.TagClass), "(a message that this program cannot show)"},
		{wire.Content{Extended: true, Bytes: []byte{9}}, "(a message that this program cannot show)"},
	} {
		if got := contentText(c.content); got != c.want {
			t.Errorf("%+v is shown as %q", c.content, got)
		}
	}
}

func TestAGroupFromItsMakingToItsEnd(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	ada := runChat(t, dial(t, n, "ada"), Config{With: "bob", History: 20}, false)
	bob := runChat(t, dial(t, n, "bob"), Config{With: "ada", History: 20}, false)
	ada.shows(t, "ada and bob")
	bob.shows(t, "bob and ada")
	ada.write("/who\n/invite carol\n/group\n/group friends\n")
	ada.shows(t, "* this is not a group: /group TITLE opens or makes one")
	ada.shows(t, "* Say which: /group TITLE")
	ada.shows(t, `* ada made the group "friends"`)
	ada.write("/invite bob\n/invite nobody\n/invite\n")
	ada.shows(t, "* ada added bob")
	ada.shows(t, "* Not done: there is no such user")
	ada.shows(t, "* Say whom, by name.")
	bob.shows(t, "* ada writes in friends; /group friends opens it")
	bob.write("/group friends\nhello all\n")
	ada.shows(t, "bob: hello all")
	bob.write("/title mine\n/remove ada\n")
	bob.until(t, "two refusals", func() bool { return strings.Count(bob.String(), "* Not done: ") == 2 })
	ada.write("welcome\n/title pals\n/moderator bob\n/invite carol\n")
	bob.shows(t, "ada: welcome")
	bob.shows(t, `* ada called the group "pals"`)
	bob.shows(t, "* ada made bob moderator")
	bob.write("/who\n")
	bob.shows(t, "pals: 3 members")
	for _, want := range []string{"ada                  owner", "bob                  moderator", "carol                member"} {
		bob.shows(t, want)
	}
	bob.write("/remove carol\n")
	ada.shows(t, "* bob removed carol")
	bob.write("/leave\nstill there?\n")
	ada.shows(t, "* bob left")
	bob.shows(t, "* Not sent")
	ada.write("/list\n")
	ada.shows(t, "pals                 9 messages")
	ada.write("/quit\n")
	if err := ada.end(t); err != nil && !errors.Is(err, ErrUnsent) {
		t.Error(err)
	}
}
