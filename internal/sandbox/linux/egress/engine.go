//go:build linux

package egress

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// nic is the number of the machinery's one interface.
const nic tcpip.NICID = 1

// Buffers of one TCP connection towards the sandbox, in bytes each way. The
// first connections of a sandbox get large ones, since a few connections are
// what throughput is about; a sandbox that opens hundreds gets small ones for
// the rest, which bounds what it can make firn hold to some 150 MB.
const (
	largeBuffer      = 512 << 10
	smallBuffer      = 64 << 10
	largeConnections = 32
)

// timeWait is how long the machinery remembers a connection that it closed
// first. Segments cannot linger between two ends of one device.
const timeWait = 100 * time.Millisecond

// engine is the TCP/IP machinery of a sandbox that uses its network, and the
// flows that go through it. It is made by the first packet and dropped when no
// flow has been there for a while.
type engine struct {
	s    *Stack
	st   *stack.Stack
	link *link
	fwd  *tcp.Forwarder

	// Guarded by s.mu. An entry of opening is there from the SYN until the
	// forwarder has forgotten it, so that the forwarder never drops a SYN on
	// its own and each one it takes is counted in s.work.
	opening map[stack.TransportEndpointID]struct{}
	tcp     int
	dns     int
	udp     map[flowKey]*udpFlow
}

// newEngine builds the machinery for s. It accepts packets for every address:
// to the sandbox it is the whole world.
func newEngine(s *Stack) (*engine, error) {
	e := &engine{
		s:       s,
		link:    newLink(s.raw),
		opening: make(map[stack.TransportEndpointID]struct{}),
		udp:     make(map[flowKey]*udpFlow),
	}
	e.st = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if err := e.configure(); err != nil {
		e.st.Destroy()
		return nil, err
	}
	e.fwd = tcp.NewForwarder(e.st, 0, s.cfg.Limits.MaxTCP, e.runTCP)
	e.st.SetTransportProtocolHandler(tcp.ProtocolNumber, e.onTCP)
	e.st.SetTransportProtocolHandler(udp.ProtocolNumber, e.onUDP)
	return e, nil
}

// configure sets the machinery's options and makes its interface.
func (e *engine) configure() error {
	moderate := tcpip.TCPModerateReceiveBufferOption(false)
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	for _, option := range []tcpip.SettableTransportProtocolOption{
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: largeBuffer, Max: largeBuffer},
		&tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: largeBuffer, Max: largeBuffer},
		&moderate, &wait,
	} {
		if err := e.st.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("TCP option %T: %s", option, err)
		}
	}
	if err := e.st.CreateNIC(nic, e.link); err != nil {
		return fmt.Errorf("interface: %s", err)
	}
	own := tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(tun.Gateway()), PrefixLen: tun.PrefixBits},
	}
	if err := e.st.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("address: %s", err)
	}
	if err := e.st.SetPromiscuousMode(nic, true); err != nil {
		return fmt.Errorf("promiscuous mode: %s", err)
	}
	if err := e.st.SetSpoofing(nic, true); err != nil {
		return fmt.Errorf("spoofing: %s", err)
	}
	e.st.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return nil
}

// activeLocked is the number of flows of any kind. It needs s.mu.
func (e *engine) activeLocked() int { return e.tcp + e.dns + len(e.udp) }

// endLocked is called after a flow was taken off the books. It needs s.mu.
func (e *engine) endLocked() {
	if e.activeLocked() == 0 {
		e.s.restLocked()
	}
}

// abort ends all flows and returns when work, which counts their goroutines,
// is done. The Stack is closing: no flow begins any more.
func (e *engine) abort(work *sync.WaitGroup) {
	done := make(chan struct{})
	go func() { defer close(done); work.Wait() }()

	e.s.mu.Lock()
	flows := make([]*udpFlow, 0, len(e.udp))
	for _, f := range e.udp {
		flows = append(flows, f)
	}
	e.s.mu.Unlock()
	for _, f := range flows {
		f.stop()
	}
	// A connection in its handshake may become known to the machinery at any
	// moment, and only then can be aborted: look again until all are gone.
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		for _, ep := range e.st.RegisteredEndpoints() {
			ep.Abort()
		}
		select {
		case <-done:
			return
		case <-again.C:
		}
	}
}

// destroy ends the machinery's own goroutines and waits for them. No flow is
// left when it is called.
func (e *engine) destroy() { e.st.Destroy() }

// judge asks the policy about an address on behalf of the sandbox. When the
// host's addresses cannot be read, each may be the host's.
func (s *Stack) judge(a netip.Addr) Verdict {
	own, err := s.cfg.Host.Contains(a)
	if err != nil {
		s.log.Warn("cannot tell the host's own addresses, refusing", "error", err)
		own = true
	}
	return s.cfg.Policy.Check(a, own)
}

// judgeDialled is the second look, at a connection that exists: the kernel
// connects to an address of the host's own from that same address, so an
// address that appeared since HostAddresses was read, or that a dialler put in
// place of the judged one, is recognised before a byte has passed.
func (s *Stack) judgeDialled(c net.Conn) Verdict {
	local, remote := addrOf(c.LocalAddr()), addrOf(c.RemoteAddr())
	if !local.IsValid() || local != remote {
		return Verdict{OK: true}
	}
	return s.cfg.Policy.Check(remote, true)
}

// addrOf returns the IP address of a, or the invalid one.
func addrOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// refused counts and logs a refusal.
func (s *Stack) refused(network string, to netip.AddrPort, reason string) {
	s.mu.Lock()
	s.stats.Refused++
	s.mu.Unlock()
	s.log.Debug("outbound traffic refused", "network", network, "to", to, "reason", reason)
}

// limited counts and logs traffic beyond a limit.
func (s *Stack) limited(network string, to netip.AddrPort) {
	s.mu.Lock()
	s.stats.Limited++
	s.mu.Unlock()
	s.log.Debug("outbound traffic beyond the limit", "network", network, "to", to)
}

// address converts to the machinery's type.
func address(a netip.Addr) tcpip.Address { return tcpip.AddrFrom4(a.As4()) }

// local is the address the sandbox wanted to reach, remote the sandbox's own:
// the machinery names them from its own side.
func local(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort)
}

func remote(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(id.RemoteAddress.As4()), id.RemotePort)
}
