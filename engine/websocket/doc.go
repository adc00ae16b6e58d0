// Package websocket is the server's side of RFC 6455 over bytes that are already
// there: it reads from no connection and writes to none, so that an event loop can
// call it with whatever has arrived.
package websocket
