// Package engine is the Parley server: it ties the network core, the sessions, the
// replicated shards and the stores together into one node. ARCHITECTURE.md beside it
// has the decisions and the path of a message.
package engine
