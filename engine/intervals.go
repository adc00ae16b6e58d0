package engine

import "time"

// intervals are how often the tasks of a cluster's node look around. Most of what they do is
// done at once when its cause is heard of; nothing is wrong when they look later or more
// often.
type intervals struct {
	// host is for what could not be begun or dropped when the map changed.
	host time.Duration
	// walk is between two looks at the groups that are led here.
	walk time.Duration
	// plan is between two changes of the map by its leader: of each, some shards move.
	plan time.Duration
	// announce is for what a link has lost of who leads which group.
	announce time.Duration
}

// fill sets those that are not given.
func (i *intervals) fill(set func(d *time.Duration, value time.Duration)) {
	set(&i.host, time.Second)
	set(&i.walk, 200*time.Millisecond)
	set(&i.plan, time.Second)
	set(&i.announce, time.Second)
}
