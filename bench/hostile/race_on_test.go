//go:build race

package hostile

// raceEnabled says that the tests, and so the server, run under the race detector, which takes
// several times the memory.
const raceEnabled = true
