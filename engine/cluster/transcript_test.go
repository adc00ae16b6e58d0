package cluster

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// update rewrites the answers in testdata: go test ./engine/cluster -update
var update = flag.Bool("update", false, "rewrite testdata")

// TestWalks shows whole walks. A block begins with the replicas of a group, each a letter:
// voters (the first leads), learners, desired, and those that are down or lag for good; new
// copies catch up at once. Its answer is the steps, with the voters after each.
func TestWalks(t *testing.T) {
	const file = "testdata/walk.txt"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rewritten bytes.Buffer
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		input, want, _ := strings.Cut(block, "\n----")
		got := walkthrough(t, input)
		if !*update && got != strings.TrimSpace(want) {
			t.Errorf("%s\ngot\n%s\nwant\n%s", input, got, strings.TrimSpace(want))
		}
		fmt.Fprintf(&rewritten, "%s\n----\n%s\n\n", input, got)
	}
	if *update {
		if err := os.WriteFile(file, append(bytes.TrimSpace(rewritten.Bytes()), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const letters = "abcdefgh"

func walkthrough(t *testing.T, input string) string {
	g := group{up: 1<<len(letters) - 1, current: 1<<len(letters) - 1}
	for _, line := range strings.Split(input, "\n") {
		name, rest, _ := strings.Cut(line, " ")
		set := uint(0)
		for _, letter := range rest {
			set |= 1 << max(0, strings.IndexRune(letters, letter))
		}
		switch name {
		case "voters":
			g.voters, g.leader = set, strings.IndexByte(letters, rest[0])
		case "learners":
			g.learners = set
		case "desired":
			g.desired = set
		case "down":
			g.up, g.current = g.up&^set, g.current&^set
		case "lagging":
			g.current &^= set
		case "prefers":
			node, err := strconv.Atoi(rest)
			if err != nil {
				t.Fatal(err)
			}
			g.preferred = uint32(node)
		case "#":
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	var out strings.Builder
	for range 30 {
		step := g.walk()
		if err := g.take(step); err != nil {
			t.Fatalf("%s\n%v", input, err)
		}
		if step.Action == Wait {
			return out.String() + step.Reason
		}
		if step.Action == Done {
			return out.String() + "done"
		}
		voters := ""
		for i, letter := range letters {
			if has(g.voters, i) {
				voters += string(letter)
			}
		}
		fmt.Fprintf(&out, "%-11s %c: voters %s, %c leads\n", step.Action, letters[number(step.Replica)], voters, letters[g.leader])
	}
	t.Fatalf("%s\nnever ends", input)
	return ""
}
