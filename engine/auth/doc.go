// Package auth says who is speaking: it signs and checks tokens, makes and checks
// resume tickets, hashes passwords and holds the rules for names and passwords.
//
// A token is a JSON Web Token signed with Ed25519 (EdDSA): an operator, or later an
// account service, gives it to a client, and any node that has the public key checks it
// in about 60 µs. A ticket is what a node gives in WELCOME so that the next HELLO of
// the same device costs a MAC, under a microsecond, and no signature: after a failure a
// million clients come back at once.
//
// Both name a user and a device and carry their own expiry; neither needs a look-up.
// All keys are in one file, keys.json, which LoadOrCreateKeys makes on first use.
package auth
