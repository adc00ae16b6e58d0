package wire

import (
	"testing"

	"pgregory.net/rapid"
)

var (
	ownGen = rapid.Custom(func(t *rapid.T) Own {
		o := Own{Flags: numberGen.Draw(t, "flags"), Version: numberGen.Draw(t, "version")}
		if o.Version > 0 {
			o.MutedUntil = timeGen.Draw(t, "muted until")
		}
		return o
	})
	ownSettingsGen = rapid.Custom(func(t *rapid.T) OwnSettings {
		s := OwnSettings{Correlation: numberGen.Draw(t, "correlation"), Ref: refGen.Draw(t, "ref"), Version: numberGen.Draw(t, "version"),
			Flags: rapid.Uint64Range(0, OwnSettingsMask).Draw(t, "flags")}
		if s.Flags&OwnMuted != 0 {
			s.MutedUntil = timeGen.Draw(t, "muted until")
		}
		return s
	})
	ownStateGen = rapid.Custom(func(t *rapid.T) OwnState {
		return OwnState{Ref: refGen.Draw(t, "ref"), Version: numberGen.Draw(t, "version"), Flags: numberGen.Draw(t, "flags"),
			MutedUntil: timeGen.Draw(t, "muted until")}
	})
)

func TestItemsOfDirectConversationsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := ownGen.Draw(t, "own")
		if again, err := ParseOwn(o.Block()); err != nil || again != o {
			t.Fatalf("%+v, %v", again, err)
		}
		g := GroupItem{Own: o, Role: RoleMember, From: 1, Title: "Friends"}
		if again, err := ParseOwn(g.Block()); err != nil || again != o {
			t.Fatalf("of a group: %+v, %v", again, err)
		}
	})
	later := AppendExtension([]byte((&Own{Flags: OwnPinned, Version: 1}).Block()), 40, []byte("later"))
	if o, err := ParseOwn(string(later)); err != nil || o != (Own{Flags: OwnPinned, Version: 1}) {
		t.Errorf("with a later tag: %+v, %v", o, err)
	}
	for name, block := range map[string][]byte{
		"no flags":          AppendExtension(nil, itemSettings, nil),
		"flags too many":    AppendExtension(nil, itemSettings, []byte{1, 1}),
		"a version alone":   AppendExtension(nil, itemVersion, []byte{1}),
		"a number too many": AppendExtension(nil, itemVersion, []byte{1, 1, 1}),
	} {
		if o, err := ParseOwn(string(block)); err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestAnItemWithoutAnythingOfOnesOwnHasNoBlock(t *testing.T) {
	if block := (&Own{}).Block(); block != "" {
		t.Errorf("%x", block)
	}
}

func FuzzOwnSettings(f *testing.F) { fuzzKind(f, TypeOwnSettings) }
func FuzzOwnState(f *testing.F)    { fuzzKind(f, TypeOwnState) }
