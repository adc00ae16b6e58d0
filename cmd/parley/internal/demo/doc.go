// Package demo is the conversation behind `make demo`: two real clients and a real server
// process, which is killed with SIGKILL in the middle and started again. It tells what it
// does, shows the ticks of each message, and fails unless every message and receipt that
// anybody was told of is there afterwards.
package demo
