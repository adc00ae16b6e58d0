//go:build !planted

package planted

// Active reports whether a bug is there. It is not.
func Active(Bug) bool { return false }

// Possible says whether this program can be given bugs.
const Possible = false

// Plant does nothing.
func Plant(Bug) {}
