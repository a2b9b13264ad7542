//go:build linux

package egress

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/rawfile"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// wanted tells whether a packet from the sandbox can lead to anything: a whole
// IPv4 header, from the sandbox's own address to a unicast one, of TCP or UDP,
// or an echo request to Gateway. All else is dropped before it costs anything;
// in particular firn does not answer pings in the name of other hosts.
func wanted(packet []byte) bool {
	if header.IPVersion(packet) != header.IPv4Version || len(packet) < header.IPv4MinimumSize {
		return false
	}
	h := header.IPv4(packet)
	if h.SourceAddress() != address(tun.Sandbox()) {
		return false
	}
	to := h.DestinationAddress()
	if first := to.As4()[0]; first == 0 || first >= 224 {
		return false
	}
	switch h.TransportProtocol() {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		return true
	case header.ICMPv4ProtocolNumber:
		return to == address(tun.Gateway())
	}
	return false
}

// link is the network interface of the TCP/IP machinery: it writes packets to
// the TUN descriptor and is given those that were read from it.
type link struct {
	raw syscall.RawConn

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher // nil before Attach and after removal

	// out is held while packets are written. The rest is the state of one
	// write, kept here so that a write allocates nothing.
	out     sync.Mutex
	iovecs  []unix.Iovec
	errno   unix.Errno
	writeFn func(fd uintptr) bool
}

var _ stack.LinkEndpoint = (*link)(nil)

func newLink(raw syscall.RawConn) *link {
	l := &link{raw: raw}
	l.writeFn = l.write
	return l
}

// deliver gives a packet from the sandbox to the machinery.
func (l *link) deliver(v *buffer.View) {
	l.mu.RLock()
	d := l.dispatcher
	l.mu.RUnlock()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	defer pkt.DecRef()
	if d == nil {
		return
	}
	// The packet never left this kernel, and what a sandbox could do by
	// forging a checksum it does to itself.
	pkt.RXChecksumValidated = true
	d.DeliverNetworkPacket(header.IPv4ProtocolNumber, pkt)
}

// WritePackets sends packets to the sandbox. A packet the device does not take
// is lost, as on any network.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	l.out.Lock()
	defer l.out.Unlock()
	sent := 0
	for _, pkt := range pkts.AsSlice() {
		l.iovecs = l.iovecs[:0]
		for _, b := range pkt.AsSlices() {
			l.iovecs = rawfile.AppendIovecFromBytes(l.iovecs, b, 1<<10)
		}
		err := l.raw.Write(l.writeFn)
		clear(l.iovecs) // do not keep the packet's memory alive
		if err != nil {
			return sent, &tcpip.ErrClosedForSend{}
		}
		if l.errno == 0 {
			sent++
		}
	}
	return sent, nil
}

// write is called with the descriptor; it never waits.
func (l *link) write(fd uintptr) bool {
	l.errno = rawfile.NonBlockingWriteIovec(int(fd), l.iovecs)
	return true
}

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return tun.MTU }

// SetMTU implements stack.LinkEndpoint; the size is fixed.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength implements stack.LinkEndpoint: there is no link header.
func (l *link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint: there is none.
func (l *link) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.LinkEndpoint.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// Wait implements stack.LinkEndpoint: a link has no goroutine.
func (l *link) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.LinkEndpoint.
func (l *link) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint.
func (l *link) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements stack.LinkEndpoint; the descriptor belongs to the Stack.
func (l *link) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (l *link) SetOnCloseAction(func()) {}
