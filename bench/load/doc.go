// Package load is the process that applies load: one epoll loop that holds raw protocol
// sessions, and the jobs that drive them. It shares a machine with the server that it
// measures, so it spends as little as it can: one goroutine, one read and one write a
// session and round, no allocation a message.
//
// It is not wire/client. It keeps no conversation list and fills no gap: it checks that
// there is none.
package load
