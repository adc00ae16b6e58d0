package auth

import (
	"errors"
	"strings"
	"testing"
	"time"

	"parley/wire"
)

func TestInvitation(t *testing.T) {
	ours, theirs := newKeys(t), newKeys(t)
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	good, err := ours.SignInvitation(now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := theirs.SignInvitation(now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ours.SignToken(1<<36|1, 1<<36|2, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text, want string
		after            time.Duration
	}{
		{name: "good", text: good},
		{name: "good to the last second", text: good, after: time.Hour - time.Second},
		{name: "expired", text: good, after: time.Hour + time.Second, want: "expired"},
		{name: "of another cluster", text: foreign, want: "not of this cluster"},
		{name: "a user's token", text: token, want: "not of this cluster"},
		{name: "none", want: "there is none"},
		{name: "garbage", text: "a.b.c", want: "not of this cluster"},
	} {
		err := ours.VerifyInvitation(c.text, now.Add(c.after))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.Is(err, ErrInvitation) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := ours.VerifyToken([]byte(good), wire.TimeOf(now)); !errors.Is(err, ErrInvalid) {
		t.Errorf("an invitation lets a user in: %v", err)
	}
	for _, lifetime := range []time.Duration{0, InvitationLifetimeMax + time.Second} {
		if _, err := ours.SignInvitation(now, lifetime); !errors.Is(err, ErrInvitation) {
			t.Errorf("lifetime %v: %v", lifetime, err)
		}
	}
}
