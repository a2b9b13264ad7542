//go:build linux

package egress

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// maxDatagram is the largest payload of UDP over IPv4.
const maxDatagram = math.MaxUint16 - header.IPv4MinimumSize - header.UDPMinimumSize

// earlyBytes is how much of a flow is kept while its outer socket is opened.
const earlyBytes = 64 << 10

// flowKey names a UDP flow: the sandbox's port and whom it talks to.
type flowKey struct {
	port uint16
	to   netip.AddrPort
}

// udpFlow is a UDP conversation. What the sandbox sends goes out on the
// goroutine that reads the TUN device and is dropped when the socket would
// block; what comes back is moved by the flow's own goroutine.
type udpFlow struct {
	e   *engine
	key flowKey

	mu      sync.Mutex
	outer   net.Conn        // nil while it is opened
	raw     syscall.RawConn // of outer, or nil
	early   [][]byte        // sent before outer was there
	size    int             // of early, in bytes
	stopped bool
	used    bool // since the idle timer looked last
}

// onUDP sees every UDP datagram of the sandbox. It returns false for one to a
// port of Gateway where nothing is, which is answered with "port unreachable".
func (e *engine) onUDP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	payload, ok := datagram(pkt)
	if !ok {
		return true
	}
	to, from := local(id), remote(id)
	if to.Addr() == tun.Gateway() {
		if to.Port() != dnsPort {
			return false
		}
		e.resolve(from, payload)
		return true
	}
	if f := e.flow(flowKey{from.Port(), to}); f != nil {
		f.send(payload)
	}
	return true
}

// datagram returns a copy of the payload of a UDP packet whose length field
// agrees with its size.
func datagram(pkt *stack.PacketBuffer) ([]byte, bool) {
	size := int(header.UDP(pkt.TransportHeader().Slice()).Length()) - header.UDPMinimumSize
	if size < 0 || size > pkt.Data().Size() {
		return nil, false
	}
	return pkt.Data().AsRange().Capped(size).ToSlice(), true
}

// flow returns the flow for key, beginning one when there is none; nil when it
// is refused or a limit is reached.
func (e *engine) flow(key flowKey) *udpFlow {
	s := e.s
	s.mu.Lock()
	f := e.udp[key]
	s.mu.Unlock()
	if f != nil { // flows are added on the calling goroutine only
		return f
	}
	if v := s.judge(key.to.Addr()); !v.OK {
		s.refused("udp", key.to, v.Reason)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil
	}
	if len(e.udp) >= s.cfg.Limits.MaxUDP || !s.cfg.Budget.take() {
		s.stats.Limited++
		return nil
	}
	f = &udpFlow{e: e, key: key}
	e.udp[key] = f
	s.stats.UDP++
	s.stats.Opened++
	s.work.Go(f.run)
	return f
}

// run opens the outer socket and moves what comes back, until the flow has been
// idle for Limits.UDPIdle or is stopped.
func (f *udpFlow) run() {
	defer f.end()
	s := f.e.s
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.DialTimeout)
	outer, err := s.cfg.Dialer(ctx, "udp4", f.key.to.String())
	cancel()
	if err != nil {
		s.log.Debug("outbound flow failed", "to", f.key.to, "error", err)
		return
	}
	defer outer.Close()
	if v := s.judgeDialled(outer); !v.OK {
		s.refused("udp", f.key.to, v.Reason)
		return
	}
	if !f.opened(outer) {
		return
	}
	f.receive(outer)
}

// receive moves datagrams from the outer socket to the sandbox.
func (f *udpFlow) receive(outer net.Conn) {
	from := newSource(outer, maxDatagram)
	back := netip.AddrPortFrom(tun.Sandbox(), f.key.port)
	for f.extend(outer) {
		v, err := from.next()
		switch {
		case err == nil:
			f.touch()
			f.e.sendUDP(f.key.to, back, v.AsSlice())
			v.Release()
		case errors.Is(err, unix.ECONNREFUSED): // about one datagram, not the flow
			f.touch()
		case !timedOut(err): // else extend judges whether it was idle
			return
		}
	}
}

// extend gives the flow another idle period, unless it was stopped or nothing
// happened in the last one.
func (f *udpFlow) extend(outer net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped || !f.used {
		return false
	}
	f.used = false
	return outer.SetReadDeadline(time.Now().Add(f.e.s.cfg.Limits.UDPIdle)) == nil
}

func (f *udpFlow) touch() {
	f.mu.Lock()
	f.used = true
	f.mu.Unlock()
}

// opened makes the outer socket known and sends what waited for it.
func (f *udpFlow) opened(outer net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return false
	}
	if u, ok := outer.(*net.UDPConn); ok {
		f.raw, _ = u.SyscallConn()
	}
	f.outer, f.used = outer, true
	for _, b := range f.early {
		f.writeLocked(b)
	}
	f.early = nil
	return true
}

// send sends one datagram out, without waiting.
func (f *udpFlow) send(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.stopped:
	case f.outer != nil:
		f.used = true
		f.writeLocked(b)
	case f.size+len(b) <= earlyBytes:
		f.early = append(f.early, b)
		f.size += len(b)
	}
}

// writeLocked writes a datagram, or drops it when it cannot be written now.
func (f *udpFlow) writeLocked(b []byte) {
	if f.raw == nil {
		_, _ = f.outer.Write(b) // lost, as datagrams may be
		return
	}
	_ = f.raw.Write(func(fd uintptr) bool {
		_, _ = unix.Write(int(fd), b)
		return true
	})
}

// stop ends the flow's goroutine soon.
func (f *udpFlow) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	if f.outer != nil {
		_ = f.outer.SetDeadline(time.Unix(1, 0))
	}
}

// end takes the flow off the books.
func (f *udpFlow) end() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	s := f.e.s
	s.mu.Lock()
	delete(f.e.udp, f.key)
	s.stats.UDP--
	f.e.endLocked()
	s.mu.Unlock()
	s.cfg.Budget.giveBack()
}

// sendUDP sends a datagram to the sandbox in the name of from.
func (e *engine) sendUDP(from, to netip.AddrPort, payload []byte) {
	if err := e.writeUDP(from, to, payload); err != nil {
		e.s.log.Debug("datagram to sandbox lost", "from", from, "error", err)
	}
}

func (e *engine) writeUDP(from, to netip.AddrPort, payload []byte) error {
	r, terr := e.st.FindRoute(nic, address(from.Addr()), address(to.Addr()), ipv4.ProtocolNumber, false)
	if terr != nil {
		return fmt.Errorf("route: %s", terr)
	}
	defer r.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize + int(r.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(payload),
	})
	defer pkt.DecRef()
	h := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	pkt.TransportProtocolNumber = udp.ProtocolNumber
	length := uint16(pkt.Size())
	h.Encode(&header.UDPFields{SrcPort: from.Port(), DstPort: to.Port(), Length: length})
	sum := h.CalculateChecksum(checksum.Combine(
		r.PseudoHeaderChecksum(udp.ProtocolNumber, length), pkt.Data().Checksum()))
	if sum != math.MaxUint16 { // RFC 768: zero would mean "none"
		sum = ^sum
	}
	h.SetChecksum(sum)
	params := stack.NetworkHeaderParams{Protocol: udp.ProtocolNumber, TTL: r.DefaultTTL()}
	if terr := r.WritePacket(params, pkt); terr != nil {
		return fmt.Errorf("write: %s", terr)
	}
	return nil
}
