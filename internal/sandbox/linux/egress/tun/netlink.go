//go:build linux

package tun

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// netlink is a route socket in the namespace of the thread that opened it.
// Four fixed messages are sent over it, so they are written by hand instead of
// bringing a library into the init program.
type netlink struct {
	fd  int
	seq uint32
}

func dialNetlink() (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &netlink{fd: fd}, nil
}

func (n *netlink) close() { _ = unix.Close(n.fd) }

// message is one netlink request: its type, further flags, and body.
type message struct {
	kind  uint16
	flags uint16
	body  []byte
}

// do sends m and waits for the kernel's acknowledgement, which for route
// messages is there when the send returns.
func (n *netlink) do(m message) error {
	n.seq++
	b := make([]byte, 0, unix.NLMSG_HDRLEN+len(m.body))
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(m.body)))
	b = binary.NativeEndian.AppendUint16(b, m.kind)
	b = binary.NativeEndian.AppendUint16(b, m.flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = binary.NativeEndian.AppendUint32(b, n.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, m.body...)
	if err := unix.Sendto(n.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink send: %w", err)
	}
	return n.acknowledged()
}

// acknowledged reads the answer to the last request. The kernel is the only
// possible sender: the socket was bound to nothing and joined no group.
func (n *netlink) acknowledged() error {
	var buf [4096]byte
	for {
		size, _, err := unix.Recvfrom(n.fd, buf[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("netlink receive: %w", err)
		}
		if size < unix.NLMSG_HDRLEN+4 {
			return fmt.Errorf("netlink answer of %d bytes is too short", size)
		}
		kind := binary.NativeEndian.Uint16(buf[4:])
		seq := binary.NativeEndian.Uint32(buf[8:])
		if kind != unix.NLMSG_ERROR || seq != n.seq {
			continue
		}
		if code := int32(binary.NativeEndian.Uint32(buf[unix.NLMSG_HDRLEN:])); code != 0 {
			return unix.Errno(-code)
		}
		return nil
	}
}

// attribute appends one type-length-value with its padding to 4 bytes.
func attribute(b []byte, kind uint16, value []byte) []byte {
	size := unix.SizeofRtAttr + len(value)
	b = binary.NativeEndian.AppendUint16(b, uint16(size))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for ; size%unix.RTA_ALIGNTO != 0; size++ {
		b = append(b, 0)
	}
	return b
}

func word(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// linkHeader is struct ifinfomsg.
func linkHeader(index, flags, change uint32) []byte {
	b := make([]byte, 4, unix.SizeofIfInfomsg) // family unspecified, pad, type 0
	b = append(b, word(index)...)
	b = append(b, word(flags)...)
	return append(b, word(change)...)
}

// noIPv6Address sets the interface's IPv6 address generation to "none"
// (IN6_ADDR_GEN_MODE_NONE, linux/if_link.h).
func noIPv6Address(index uint32) message {
	const inet6AddrGenMode, modeNone = 8, 1
	mode := attribute(nil, inet6AddrGenMode, []byte{modeNone})
	family := attribute(nil, unix.AF_INET6|unix.NLA_F_NESTED, mode)
	return message{kind: unix.RTM_NEWLINK,
		body: attribute(linkHeader(index, 0, 0), unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, family)}
}

func linkUp(index uint32) message {
	b := linkHeader(index, unix.IFF_UP, unix.IFF_UP)
	b = attribute(b, unix.IFLA_MTU, word(MTU))
	b = attribute(b, unix.IFLA_TXQLEN, word(queueLength))
	return message{kind: unix.RTM_NEWLINK, body: b}
}

func addAddress(index uint32) message {
	b := []byte{unix.AF_INET, PrefixBits, 0, unix.RT_SCOPE_UNIVERSE} // struct ifaddrmsg
	b = append(b, word(index)...)
	own := Sandbox().As4()
	b = attribute(b, unix.IFA_LOCAL, own[:])
	b = attribute(b, unix.IFA_ADDRESS, own[:])
	return message{kind: unix.RTM_NEWADDR, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: b}
}

func defaultRoute(index uint32) message {
	b := []byte{ // struct rtmsg
		unix.AF_INET, 0, 0, 0,
		unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST,
		0, 0, 0, 0,
	}
	gateway := Gateway().As4()
	b = attribute(b, unix.RTA_GATEWAY, gateway[:])
	b = attribute(b, unix.RTA_OIF, word(index))
	return message{kind: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: b}
}
