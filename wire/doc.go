// Package wire is the Parley protocol: identifiers, frames, codec, error codes and
// limits. PROTOCOL.md beside it is the normative text. The package does no I/O,
// reads no clock and uses the standard library only.
package wire
