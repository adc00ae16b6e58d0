package engine

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestANodeThatDoesNotTakeOverIsAskedMoreAndMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tr transfers
		if tr.rests(1, 5) {
			t.Fatal("it rests before it has failed")
		}
		for _, pause := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 5 * time.Minute} {
			tr.fail(1, 5)
			time.Sleep(pause - time.Second)
			if !tr.rests(1, 5) {
				t.Fatalf("it is asked again before %v", pause)
			}
			if tr.rests(1, 4) || tr.rests(2, 5) {
				t.Fatal("another node, or another group, rests")
			}
			time.Sleep(time.Second)
			if tr.rests(1, 5) {
				t.Fatalf("it is not asked again after %v", pause)
			}
		}
		tr.succeed(1)
		tr.fail(1, 5)
		time.Sleep(transferPauseMin)
		if tr.rests(1, 5) {
			t.Fatal("the pauses do not begin anew after a success")
		}
	})
}
