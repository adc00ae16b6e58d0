// Package sim runs whole nodes with their clients in virtual time, on a network and disks
// that fail as a seed says, and checks every promise on what the clients saw.
package sim
