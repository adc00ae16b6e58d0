package reactor

import (
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// reserve finds out whether the address is free, picks a port if it is to, and holds
// it until release. The probe goes without SO_REUSEPORT: two servers with it would
// share a port without a word.
func reserve(address string) (resolved *net.TCPAddr, release func(), err error) {
	probe, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	resolved = probe.Addr().(*net.TCPAddr)
	if err = probe.Close(); err != nil {
		return nil, nil, err
	}
	holder, err := hold(resolved)
	if err != nil {
		return nil, nil, err
	}
	return resolved, func() { _ = unix.Close(holder) }, nil
}

// gnetAddress is the address as gnet wants it: it takes "[::]" for IPv6 alone, and no
// host for both.
func gnetAddress(address *net.TCPAddr) string {
	if address.IP.To4() == nil && address.IP.IsUnspecified() {
		return net.JoinHostPort("", strconv.Itoa(address.Port))
	}
	return address.String()
}

// hold binds a socket that does not listen, so that nobody is given the port before
// gnet's listeners, who may bind beside it, have it.
func hold(address *net.TCPAddr) (fd int, err error) {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: address.Port, Addr: [16]byte(address.IP.To16())})
	if ip := address.IP.To4(); ip != nil {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte(ip)}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			_ = unix.Close(fd)
			return 0, os.NewSyscallError("setsockopt", err)
		}
	}
	if err = unix.Bind(fd, to); err != nil {
		_ = unix.Close(fd)
		return 0, os.NewSyscallError("bind", err)
	}
	return fd, nil
}
