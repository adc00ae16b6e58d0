// Package planted has the switches of bugs on purpose: bench/sim shows with them that it
// would find such bugs. Without the build tag planted every question is a constant no, and
// nothing of a bug is left in a program.
package planted
