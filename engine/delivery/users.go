package delivery

import "parley/wire"

// Users is, at an edge, the set of users with sessions here who take part in one shard.
// It counts no sessions: the Directory knows when a user's last one has gone, and asking
// the set of every shard then is cheaper than a table of each user's shards. Its owner's
// mutex guards it; its zero value is empty.
type Users struct {
	rows pairs
}

// Add enters a user and reports whether the user is new.
func (u *Users) Add(user wire.ID) bool { return u.rows.add(user, 0) }

// Remove takes a user out and reports whether the user was there.
func (u *Users) Remove(user wire.ID) bool { return u.rows.remove(user, 0) }

// Has reports whether the user is there.
func (u *Users) Has(user wire.ID) bool { return u.rows.has(user, 0) }

// Len is the number of users.
func (u *Users) Len() int { return u.rows.used }

// Append appends all users, in no order.
func (u *Users) Append(dst []wire.ID) []wire.ID {
	for _, pair := range u.rows.places {
		if pair != 0 {
			dst = append(dst, userOf(pair))
		}
	}
	return dst
}
