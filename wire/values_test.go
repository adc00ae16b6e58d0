package wire

import (
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestTimesBeforeTheEpochAreZero(t *testing.T) {
	if got := TimeOf(time.UnixMilli(Epoch - 1)); got != 0 {
		t.Errorf("a moment before the epoch is %d", got)
	}
	if got := TimeOf(time.UnixMilli(Epoch + 1)); got != 1 {
		t.Errorf("a moment after the epoch is %d", got)
	}
}

func TestClassesFollowTheHundreds(t *testing.T) {
	for code, want := range map[Code]Class{
		0: ClassPermanent, 99: ClassPermanent, 100: ClassRetry, 199: ClassRetry, 200: ClassRetryAfter, 301: ClassReconnect,
		499: ClassPermanent, 500: ClassLogOut, 599: ClassLogOut, 600: ClassPermanent, 999: ClassPermanent, 65_535: ClassPermanent,
	} {
		if got := code.Class(); got != want {
			t.Errorf("%d: class %d, want %d", code, got, want)
		}
	}
}

func TestCloseCodesCarryTheirCode(t *testing.T) {
	for _, code := range sortedCodes() {
		if got := CodeOfClose(code.CloseCode()); got != code {
			t.Errorf("%v comes back as %v", code, got)
		}
	}
	for closeCode, want := range map[uint16]Code{0: 0, 1000: 0, 4000: 0, 4099: 0, 4100: 100, 4599: 599, 4600: 0, 4999: 0} {
		if got := CodeOfClose(closeCode); got != want {
			t.Errorf("close code %d is %v, want %v", closeCode, got, want)
		}
	}
}

func TestCodecErrorsHaveCodes(t *testing.T) {
	for err, want := range map[error]Code{
		ErrTruncated: CodeMalformed, ErrMalformed: CodeMalformed, ErrTrailing: CodeMalformed, ErrLimit: CodeMalformed,
		ErrFrameTooLarge: CodeFrameTooLarge, ErrExtension: CodeUnsupported, errors.New("other"): CodeMalformed,
	} {
		if got := CodeOf(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}

func TestErrorsReadWell(t *testing.T) {
	e := &Error{Code: CodeTimeout}
	if got := e.Error(); got != "parley: TIMEOUT" {
		t.Error(got)
	}
	e = &Error{Code: 299, Reason: "later"}
	if got := e.Error(); got != "parley: code 299: later" {
		t.Error(got)
	}
}

func TestConversationKeysRefuseWhatIsNone(t *testing.T) {
	good := AppendConversation(nil, DirectConversation(alice, bob))
	swapped := append([]byte{0}, append(AppendID(nil, bob), AppendID(nil, alice)...)...)
	for name, key := range map[string][]byte{
		"empty": {}, "kind two": append([]byte{2}, good[1:]...), "one byte short": good[:len(good)-1], "descending": swapped,
		"group zero": AppendConversation(nil, Conversation{Kind: Group}), "direct with nobody": make([]byte, 13),
	} {
		if _, _, err := ParseConversation(key); !errors.Is(err, ErrBadConversation) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBothUsersMeetInOneConversation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := idGen.Draw(t, "x"), idGen.Draw(t, "y")
		ofX, ofY := DirectRef(y).Conversation(x), DirectRef(x).Conversation(y)
		if ofX != ofY || ofX.Ref(x) != DirectRef(y) || ofX.Ref(y) != DirectRef(x) || ofX.Peer(x) != y || !ofX.Member(x) || !ofX.Member(y) {
			t.Fatalf("%v and %v", ofX, ofY)
		}
		if z := idGen.Draw(t, "z"); z != x && z != y && ofX.Member(z) {
			t.Fatalf("%d is a member of %v", z, ofX)
		}
		group := GroupRef(x)
		c := group.Conversation(y)
		if c.Ref(y) != group || c.Slot() != x.Slot() || c.Member(x) || !group.Group() {
			t.Fatalf("group %v", c)
		}
		key := AppendConversation([]byte("prefix"), ofX)
		back, rest, err := ParseConversation(key[len("prefix"):])
		if err != nil || back != ofX || len(rest) != 0 {
			t.Fatalf("%v came back as %v, %v", ofX, back, err)
		}
	})
}

func TestIdentifiersAreMadeOfSlotAndRandomBits(t *testing.T) {
	id := MakeID(Slots-1, 1<<63|5)
	if id.Slot() != Slots-1 || id != ID(Slots-1)<<36|5 || !id.Valid() {
		t.Errorf("%x", uint64(id))
	}
	for _, text := range []string{"", "0", "-1", "+1", "281474976710656", "12a", "1_0"} {
		if id, err := ParseID(text); !errors.Is(err, ErrBadID) {
			t.Errorf("%q is %d, %v", text, id, err)
		}
	}
	if id, err := ParseID("281474976710655"); err != nil || id != lastID {
		t.Errorf("the last identifier is %d, %v", id, err)
	}
}

// 4,096 slots should fill evenly: with 100 keys each, none far from it.
func TestSlotsOfShortNamesSpread(t *testing.T) {
	var counts [Slots]int
	for n := range 100 * Slots {
		counts[SlotOf([]byte(uitoa(uint64(n))))]++
	}
	for slot, n := range counts {
		if n < 40 || n > 180 {
			t.Errorf("slot %d has %d of %d names", slot, n, 100*Slots)
		}
	}
}

func TestCutsEndAtACharacter(t *testing.T) {
	block := AppendExtension(nil, TagReplyTo, []byte{1})
	for name, c := range map[string]Content{"plain": Text("añ€😀z"), "extended": extended(block, []byte("añ€😀z"))} {
		for limit := range len(c.Bytes) + 2 {
			cut, ok := c.Cut(limit)
			if !ok {
				if !c.Extended || limit >= 1+len(block) {
					t.Errorf("%s: nothing fits %d bytes", name, limit)
				}
				continue
			}
			_, body, err := cut.Body()
			if err != nil || len(cut.Bytes) > limit || !utf8.Valid(body) || cut.Extended != c.Extended {
				t.Errorf("%s cut to %d: %q, %v", name, limit, body, err)
			}
			if limit >= len(c.Bytes) && len(cut.Bytes) != len(c.Bytes) {
				t.Errorf("%s was cut although it fits %d", name, limit)
			}
		}
	}
	if _, ok := sealed.Cut(len(sealed.Bytes) - 1); ok {
		t.Error("a content with an odd tag was cut")
	}
	if cut, ok := sealed.Cut(len(sealed.Bytes)); !ok || diff(cut, sealed) != "" {
		t.Error("a content with an odd tag that fits was refused")
	}
}

func TestAppendingToACredentialCannotReachTheNextField(t *testing.T) {
	h, err := ParseHello(mustFrame(t, AppendHello(nil, &Hello{Credential: []byte("token"), Client: "client"})))
	if err != nil || cap(h.Credential) != len(h.Credential) {
		t.Fatalf("room for %d bytes more, %v", cap(h.Credential)-len(h.Credential), err)
	}
}
