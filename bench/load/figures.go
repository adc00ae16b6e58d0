//go:build linux

package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is what a histogram holds, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// latencyMax is the longest that is told apart: a minute.
const latencyMax = time.Minute

// A recorder counts latencies in microseconds, with three digits.
type recorder struct{ h *hdrhistogram.Histogram }

func newRecorder() recorder {
	return recorder{hdrhistogram.New(1, latencyMax.Microseconds(), 3)}
}

func (r recorder) record(d time.Duration) {
	// Out of range is the only error, and the value is within it.
	_ = r.h.RecordValue(min(max(d.Microseconds(), 1), latencyMax.Microseconds()))
}

func (r recorder) latency() *Latency {
	if r.h.TotalCount() == 0 {
		return nil
	}
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return &Latency{P50: ms(r.h.ValueAtQuantile(50)), P90: ms(r.h.ValueAtQuantile(90)), P99: ms(r.h.ValueAtQuantile(99)), Max: ms(r.h.Max())}
}

// Complaints count what went wrong, with the first one's text.
type Complaints struct {
	Errors uint64 `json:"errors"`
	First  string `json:"first_error,omitempty"`
}

func (c *Complaints) add(text string) {
	c.Errors++
	if c.First == "" {
		c.First = text
	}
}
