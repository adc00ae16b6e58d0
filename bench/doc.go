// Package bench is the load generator: `parley bench NAME` starts a server process on a
// temporary folder, applies load from a process of its own, and tells what the server spent.
//
// What repeats on a noisy machine comes first: CPU of the server process per message, bytes
// per idle session, bytes on the wire and on disk. Rates and latencies stand beside them.
// RESULTS.md holds what was seen.
package bench
