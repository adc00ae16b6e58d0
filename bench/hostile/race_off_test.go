//go:build !race

package hostile

// raceEnabled says that the tests, and so the server, run under the race detector.
const raceEnabled = false
