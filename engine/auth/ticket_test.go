package auth

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"parley/wire"
)

func TestTicketProvesItsUserAndDeviceUntilItExpires(t *testing.T) {
	k := newKeys(t)
	end := at(time.Hour)
	ticket := k.AppendTicket([]byte("before"), Identity{User: user, Device: device, Expires: 5}, end)
	if !bytes.HasPrefix(ticket, []byte("before")) || len(ticket) != len("before")+TicketBytes || TicketBytes > 36 {
		t.Fatalf("%d bytes", len(ticket))
	}
	ticket = ticket[len("before"):]
	for _, now := range []wire.Time{0, at(0), end - 1} {
		id, err := k.VerifyTicket(ticket, now)
		if want := (Identity{User: user, Device: device, Expires: end}); err != nil || id != want {
			t.Errorf("at %d: %+v, %v", now, id, err)
		}
	}
	for _, now := range []wire.Time{end, end + 1, wire.NumberMax} {
		if id, err := k.VerifyTicket(ticket, now); !errors.Is(err, ErrExpired) || id != (Identity{}) {
			t.Errorf("at %d: %+v, %v", now, id, err)
		}
	}
}

func TestDamagedTicketsAreInvalid(t *testing.T) {
	k := newKeys(t)
	ticket := k.AppendTicket(nil, Identity{User: user, Device: device}, at(time.Hour))
	check := func(what string, i int, b []byte) {
		for _, now := range []wire.Time{at(0), at(2 * time.Hour)} {
			if id, err := k.VerifyTicket(b, now); !errors.Is(err, ErrInvalid) || id != (Identity{}) {
				t.Fatalf("%s %d: %+v, %v", what, i, id, err)
			}
		}
	}
	eachDamage(ticket, check)
	check("longer by", 1, append(bytes.Clone(ticket), 0))
	check("of another cluster", 0, newKeys(t).AppendTicket(nil, Identity{User: user, Device: device}, at(time.Hour)))
	check("without a user", 0, k.AppendTicket(nil, Identity{Device: device}, at(time.Hour)))
	check("without a device", 0, k.AppendTicket(nil, Identity{User: user}, at(time.Hour)))
}

func TestTicketsOfAnOlderKeyStayGood(t *testing.T) {
	before, after := keysJSON(t, "old"), keysJSON(t, "new")
	after.Ticket[0].Number = 2
	ticket := mustParseKeys(t, before).AppendTicket(nil, Identity{User: user, Device: device}, at(time.Hour))
	if _, err := mustParseKeys(t, after).VerifyTicket(ticket, at(0)); !errors.Is(err, ErrInvalid) {
		t.Errorf("with the old key gone: %v", err)
	}
	after.Ticket = append(after.Ticket, before.Ticket...)
	if _, err := mustParseKeys(t, after).VerifyTicket(ticket, at(0)); err != nil {
		t.Errorf("with the old key kept: %v", err)
	}
}

func TestTicketsMayBeMadeAndCheckedByManyAtOnce(t *testing.T) {
	k := newKeys(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				want := Identity{User: wire.ID(1 + i), Device: wire.ID(1 + n), Expires: at(time.Hour)}
				got, err := k.VerifyTicket(k.AppendTicket(nil, want, at(time.Hour)), at(0))
				if err != nil || got != want {
					t.Errorf("%+v became %+v, %v", want, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func FuzzVerifyTicket(f *testing.F) {
	k := fixedKeys(f)
	good := k.AppendTicket(nil, Identity{User: user, Device: device}, at(time.Hour))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(make([]byte, TicketBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := k.VerifyTicket(b, at(0))
		if (err == nil) != (id != Identity{}) {
			t.Fatalf("%+v, %v", id, err)
		}
		if err == nil && !bytes.Equal(k.AppendTicket(nil, id, id.Expires), b) {
			t.Fatalf("accepted %x, which is not a ticket of %+v", b, id)
		}
	})
}

func BenchmarkVerifyTicket(b *testing.B) {
	k := newKeys(b)
	ticket := k.AppendTicket(nil, Identity{User: user, Device: device}, at(time.Hour))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.VerifyTicket(ticket, at(0)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTicket(b *testing.B) {
	k := newKeys(b)
	ticket := make([]byte, 0, TicketBytes)
	b.ReportAllocs()
	for b.Loop() {
		ticket = k.AppendTicket(ticket[:0], Identity{User: user, Device: device}, at(time.Hour))
	}
}
