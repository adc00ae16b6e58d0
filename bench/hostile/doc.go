// Package hostile tests a server process against what the internet and a bad day do to it.
//
// Every test starts `parley serve` on a folder of its own, does something to it that no good client
// or operator would, and proves three things: the answer is the code that PROTOCOL.md or `parley
// exit-codes` names, nothing that was acknowledged is lost, and a witness, two well-behaved clients
// that write to each other, is served before, meanwhile and afterwards. `go test -short` leaves the
// heavy cases out: thousands of connections, full disks and most of the flipped bits. README.md has
// the table of all cases.
package hostile
