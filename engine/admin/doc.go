// Package admin is how a node is watched and operated from its own machine. A loopback
// TCP port answers /livez, /readyz, /metrics and /debug/pprof; a Unix socket in the data
// directory, which only its owner can open, creates users and signs tokens. Client is
// the other end of the socket, for the command line.
//
// The package knows the node only by the interfaces Health and Operator.
package admin
