//go:build linux && !race

package chaos

// raceEnabled says that the tests, and so the servers, run under the race detector.
const raceEnabled = false
