// Command parley is the whole of Parley in one binary: the server, the operator's
// commands, a terminal chat, the checker of data directories and the load generator.
//
// Each command is in the file that is named like it and does no more than parse its flags
// and call the package that does the work. Errors are printed as one sentence that says
// what to do; exit.go has the exit codes, which scripts may rely on.
package main
