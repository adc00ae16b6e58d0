package auth

import "time"

// Limits of credentials. Those of names are in wire.
const (
	// LeewaySeconds is how far the clock that signed a token may differ from the one that
	// checks it: a machine with NTP is within one second, one without drifts by minutes a year.
	LeewaySeconds = 30
	// TokenLifetimeMax bounds a token's life, because a token cannot be taken back.
	TokenLifetimeMax = 30 * 24 * time.Hour
	// TicketBytes is the size of every ticket.
	TicketBytes = 1 + 1 + 6 + 6 + 6 + ticketTagBytes
	// PasswordBytesMin is the least that NIST SP 800-63B allows for a password.
	PasswordBytesMin = 8
	// PasswordBytesMax leaves room for any passphrase and bounds what is hashed.
	PasswordBytesMax = 256
	// KeysMax bounds the keys of each kind in keys.json: the current one, and older ones
	// whose tokens have not expired yet.
	KeysMax = 16

	// ticketTagBytes is HMAC-SHA256 cut to 128 bits, as RFC 2104 section 5 allows.
	ticketTagBytes = 16
	// keysFileBytesMax bounds keys.json, in bytes: KeysMax keys of each kind fit eight times.
	keysFileBytesMax = 64 << 10
)

// The argon2id setting is the first choice of the OWASP password storage cheat sheet
// for machines that hash while they serve: 19 MiB, two passes, one lane, about 21 ms.
const (
	argonMemoryKiB = 19456
	argonTime      = 2
	argonThreads   = 1
	argonSaltBytes = 16
	argonKeyBytes  = 32

	// A stored hash names its own setting. These bounds keep a damaged or forged one from
	// costing more than eight times what ours does.
	argonMemoryKiBMax = 8 * argonMemoryKiB
	argonTimeMax      = 16
	argonThreadsMax   = 16
)
