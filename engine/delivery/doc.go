// Package delivery is the edge's half of delivering: which sessions a user has, what an
// applied batch means for each of them, and what becomes of pushes that a slow session
// does not take. It is plain data and functions; the event loops call it.
package delivery
