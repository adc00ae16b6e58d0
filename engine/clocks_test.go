package engine

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAClockIsWrongIfMostOthersSaySo(t *testing.T) {
	for _, c := range []struct {
		name  string
		ahead []time.Duration // of the other nodes' clocks
		wrong bool
	}{
		{"alone", nil, false},
		{"one other, far away: who is right?", []time.Duration{time.Hour}, false},
		{"two others agree", []time.Duration{time.Hour, time.Hour + time.Second}, true},
		{"two others agree, behind", []time.Duration{-time.Hour, -time.Hour}, true},
		{"two others, at the limit", []time.Duration{ClockSkewMax, ClockSkewMax}, false},
		{"two others, beyond the limit", []time.Duration{ClockSkewMax + 1, ClockSkewMax + 1}, true},
		{"one of two is wrong itself", []time.Duration{time.Hour, 0}, false},
		{"two others on either side", []time.Duration{time.Hour, -time.Hour}, false},
		{"two of four", []time.Duration{time.Hour, time.Hour, 0, 0}, false},
		{"three of four", []time.Duration{time.Hour, time.Hour, time.Hour, 0}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var clocks clocks
			now := time.Now()
			for i, ahead := range c.ahead {
				clocks.hear(uint32(i+2), now.Add(ahead), now)
			}
			wrong, changed, _ := clocks.judge()
			if wrong != c.wrong || changed != c.wrong {
				t.Errorf("%s: wrong %v, changed %v", c.name, wrong, changed)
			}
			time.Sleep(clockReadings + time.Second)
			if wrong, _, _ := clocks.judge(); wrong {
				t.Errorf("%s: wrong by readings that are old", c.name)
			}
		})
	}
}
