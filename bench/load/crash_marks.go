//go:build linux

package load

import "time"

// A MarkResult is how the streams have been served since the mark.
type MarkResult struct {
	Acked   uint64         `json:"acked"`
	Seconds float64        `json:"seconds"`
	Ack     *Latency       `json:"ack"`     // first send to SENT
	Streams []StreamOutage `json:"streams"` // stream 2i is of user i, and 2i+1 of the next one, in their conversation
}

// A StreamOutage is how one stream has been served since the mark. The time that it pauses between
// two messages counts as unserved.
type StreamOutage struct {
	Longest float64 `json:"longest_ms"` // without an acknowledgement
	Since   float64 `json:"since_ms"`   // the last acknowledgement
	Acked   uint64  `json:"acked"`
}

// mark forgets what was noted so far.
func (j *crash) mark() {
	j.ack, j.marks.at, j.marks.acked = newRecorder(), j.loop.tick(), j.result.Acked
	for _, c := range j.chats {
		for _, s := range c.streams {
			s.last, s.outage, s.recent = j.loop.now, 0, 0
		}
	}
}

func (j *crash) marked() MarkResult {
	now := j.loop.tick()
	r := MarkResult{Acked: j.result.Acked - j.marks.acked, Seconds: (now - j.marks.at).Seconds(), Ack: j.ack.latency()}
	for _, c := range j.chats {
		for _, s := range c.streams {
			r.Streams = append(r.Streams, StreamOutage{Longest: milliseconds(max(s.outage, now-s.last)), Since: milliseconds(now - s.last), Acked: s.recent})
		}
	}
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// acknowledged counts a message, and lets its stream pause.
func (j *crash) acknowledged(s *stream, counter uint64) {
	j.result.Acked++
	now := j.loop.now
	j.ack.record(now - s.moments[counter%uint64(len(s.moments))])
	s.outage, s.last = max(s.outage, now-s.last), now
	s.recent++
	if j.plan.Pause <= 0 {
		return
	}
	s.pausing = true
	j.loop.After(time.Duration(j.plan.Pause*float64(time.Millisecond)), func() {
		s.pausing = false
		j.fill(s.author)
	})
}
