// Package chaos runs clusters of real server processes under load while they are killed,
// stopped, cut off, wiped, damaged and replaced, and checks every promise on what their
// clients saw, with the checkers of the simulation.
package chaos
