//go:build planted

package planted

import "sync/atomic"

var active atomic.Uint32

// Active reports whether a bug is there.
func Active(b Bug) bool { return Bug(active.Load()) == b }

// Possible says whether this program can be given bugs.
const Possible = true

// Plant gives the program a bug, in place of the one that it had.
func Plant(b Bug) { active.Store(uint32(b)) }
