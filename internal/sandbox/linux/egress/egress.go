//go:build linux

// Package egress is the outbound network of a sandbox. The sandbox has one
// interface, a TUN device (package tun); this package is everything behind it.
// A user-mode TCP/IP stack, gVisor's, ends the sandbox's connections inside the
// firn process; each is judged by a Policy, dialled again by firn on the host's
// network, and the two are joined. No packet of a function ever reaches a
// network: what leaves the host are firn's own sockets, opened by firn to an
// address it has judged. So there is no NAT table, no firewall rule and no
// routing on the host to set up, to clean up or to get wrong, and it works the
// same for root and rootless.
//
// # What passes
//
// TCP and UDP over IPv4 to addresses the policy permits, as on AWS, where a
// function outside of a VPC has IPv4 only. A TCP connection is dialled first
// and accepted inside only when the dial succeeded: a function sees
// "connection refused" where the server refused, and a timeout where there was
// none. What the policy refuses is refused likewise (TCP) or dropped (UDP).
// Names are resolved by a forwarder on Gateway that asks the host's resolvers;
// an answer that names a refused address changes nothing, because the policy
// looks at what is dialled. Services that firn offers to functions live on TCP
// ports of Gateway. ICMP is dropped but for echo requests to Gateway; IPv6 is
// dropped.
//
// # What it costs
//
// Most sandboxes are idle or frozen most of the time, and many never use the
// network. So a Stack is only a descriptor in the runtime's poller and a parked
// goroutine, without a buffer, until the first packet that matters arrives;
// then the TCP/IP machinery is built, and it is dropped again when no flow has
// existed for Limits.Linger. An idle connection holds no buffer either. A
// frozen sandbox does not read: its windows close, firn stops reading from the
// server, and what is held is bounded per connection. All that goes on then is
// the probing of closed windows, ever more slowly.
//
// # Ownership
//
// A Stack owns its TUN descriptor and every goroutine, socket and timer made
// for it; Close ends them all and waits. Closing the descriptor takes the kernel
// some 10 to 20 ms, which it spends waiting: whoever is in a hurry calls Close
// beside other work.
package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// ErrNotPollable is returned by New for a TUN file that is in blocking mode:
// one made by os.NewFile from a descriptor without O_NONBLOCK.
var ErrNotPollable = errors.New("egress: TUN file is not in non-blocking mode")

// Gateway is firn's address on the link, as seen from inside: default route,
// DNS server on port 53 (UDP and TCP), and host of Config.Services.
func Gateway() netip.Addr { return tun.Gateway() }

// ResolvConf is what /etc/resolv.conf has to hold inside a sandbox that is
// connected by this package.
const ResolvConf = "nameserver 169.254.76.1\n"

// OpenTUN makes the interface of a sandbox in the given network namespace and
// returns firn's end of it; see tun.Open for the rights it takes, and
// tun.OpenHere for rootless use from inside.
func OpenTUN(netns *os.File) (*os.File, error) { return tun.Open(netns) }

// Dialer opens a connection to address, an IP address and port, on the host's
// network. network is "tcp4" or "udp4" for what the sandbox dials, "tcp" or
// "udp" for resolvers. It must not put another address in the place of the one
// it is given: that one was judged.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Service opens a connection to something that firn offers to the sandbox.
type Service func(ctx context.Context) (net.Conn, error)

// Config describes the network of one sandbox. The pointers may be shared by
// all sandboxes of a process.
type Config struct {
	// TUN is firn's end of the interface, from OpenTUN or tun.OpenHere. It
	// belongs to the Stack from the moment New returns without error.
	TUN *os.File
	// Policy judges destinations; nil is the zero Policy.
	Policy *Policy
	// Host knows the addresses of the host, which are refused. Share one
	// between all stacks; nil makes one for this stack.
	Host *HostAddresses
	// Dialer opens the outer connections; nil is net.Dialer.
	Dialer Dialer
	// Resolvers answer DNS queries, tried in order; see HostResolvers. When
	// empty, every query is answered with SERVFAIL.
	Resolvers []netip.AddrPort
	// Services are TCP ports of Gateway behind which firn itself answers.
	// They are not subject to Policy.
	Services map[uint16]Service
	// Budget bounds the outer sockets of all stacks together; nil: no bound
	// but the Limits of each.
	Budget *Budget
	// Logger gets refusals at debug level and failures at warn; nil discards.
	Logger *slog.Logger
	// Limits bounds what the sandbox can make firn spend.
	Limits Limits
}

// Limits bounds what one sandbox can use of firn. Zero fields take the default.
type Limits struct {
	// MaxTCP is the number of TCP connections at a time, those being dialled
	// included; further ones are refused (reset). Default 1,000, of the 1,024
	// descriptors that AWS lets an environment have.
	MaxTCP int
	// MaxUDP is the number of UDP flows (pairs of address and port) at a
	// time; packets of further ones are dropped. Default 256.
	MaxUDP int
	// MaxDNS is the number of DNS queries over UDP in flight; further ones
	// are dropped, and clients repeat them. Default 64.
	MaxDNS int
	// DialTimeout bounds the opening of an outer connection. Default 60 s.
	DialTimeout time.Duration
	// TCPIdle ends a TCP connection over which no byte went in either
	// direction for so long. Default 1 h: an environment may be frozen that
	// long between two invocations and expect its connections back.
	TCPIdle time.Duration
	// HalfClosed is TCPIdle for a connection that the sandbox has closed and
	// the server has not: most such are closed for good, and a kernel would
	// have forgotten them after a minute. Default 5 min.
	HalfClosed time.Duration
	// UDPIdle ends a UDP flow likewise. Default 60 s.
	UDPIdle time.Duration
	// DNSTimeout bounds the wait for one resolver; the next is asked then.
	// Default 2.5 s, so that two are asked within the usual client's 5 s.
	DNSTimeout time.Duration
	// Drain bounds how long a connection that is finished on both sides may
	// take to deliver to the sandbox what is still buffered. Default 60 s.
	Drain time.Duration
	// Linger is how long the TCP/IP machinery of a sandbox stays after its
	// last flow ended. Default 30 s.
	Linger time.Duration
}

// Budget is a number of sockets that several stacks share, so that sandboxes
// cannot use up the descriptors of the firn process between them.
type Budget struct{ left atomic.Int64 }

// NewBudget returns a Budget of so many sockets.
func NewBudget(sockets int) *Budget {
	b := &Budget{}
	b.left.Store(int64(sockets))
	return b
}

// take takes one socket and tells whether there was one. A nil Budget has no
// end.
func (b *Budget) take() bool {
	if b == nil {
		return true
	}
	if b.left.Add(-1) >= 0 {
		return true
	}
	b.left.Add(1)
	return false
}

func (b *Budget) giveBack() {
	if b != nil {
		b.left.Add(1)
	}
}

// withDefaults fills the fields that are zero.
func (l Limits) withDefaults() Limits {
	l.MaxTCP = orDefault(l.MaxTCP, 1000)
	l.MaxUDP = orDefault(l.MaxUDP, 256)
	l.MaxDNS = orDefault(l.MaxDNS, 64)
	l.DialTimeout = orDefault(l.DialTimeout, time.Minute)
	l.TCPIdle = orDefault(l.TCPIdle, time.Hour)
	l.HalfClosed = orDefault(l.HalfClosed, 5*time.Minute)
	l.UDPIdle = orDefault(l.UDPIdle, time.Minute)
	l.DNSTimeout = orDefault(l.DNSTimeout, 2500*time.Millisecond)
	l.Drain = orDefault(l.Drain, time.Minute)
	l.Linger = orDefault(l.Linger, 30*time.Second)
	return l
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// validate reports what is wrong with a configuration and fills what was left
// open in it.
func (c *Config) validate() error {
	if c.TUN == nil {
		return errors.New("egress: no TUN file")
	}
	// SetDeadline is the one question that tells whether the poller has it.
	if err := c.TUN.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("%w: %w", ErrNotPollable, err)
	}
	if c.Policy == nil {
		c.Policy = &Policy{}
	}
	if c.Host == nil {
		c.Host = NewHostAddresses(nil)
	}
	if c.Dialer == nil {
		c.Dialer = (&net.Dialer{}).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Limits = c.Limits.withDefaults()
	return nil
}
