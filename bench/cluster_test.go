//go:build linux

package bench

import "testing"

func TestClusterMeasuresThreeNodes(t *testing.T) {
	for _, args := range [][]string{
		{"cluster", "--pairs", "9", "--warmup", "100ms", "--duration", "400ms"},
		{"cluster", "--lone", "--plain", "--warmup", "100ms", "--duration", "400ms"},
	} {
		r := mustBench(t, args...)
		if r.Messages == 0 || r.AckedPerSecond <= 0 || r.Ack == nil || r.Deliver == nil || r.Receipt == nil ||
			r.DiskBytesPerMessage <= 0 || r.Config["nodes"] != "3" {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
