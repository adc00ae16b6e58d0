// Package client is the Go client of Parley: it connects, sends, receives, and keeps all
// that whole across lost connections and restarts.
package client
