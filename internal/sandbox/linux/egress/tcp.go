//go:build linux

package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// dnsPort is the port of DNS over UDP and TCP.
const dnsPort = 53

// onTCP sees every TCP segment that belongs to no connection. A SYN that is
// admitted goes to the forwarder, which runs runTCP on a goroutine; for all
// else false makes the machinery answer with a reset.
func (e *engine) onTCP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	flags := header.TCP(pkt.TransportHeader().Slice()).Flags()
	if !flags.Contains(header.TCPFlagSyn) || flags.Contains(header.TCPFlagAck) {
		return false
	}
	to := local(id)
	if reason := e.refuseTCP(to); reason != "" {
		e.s.refused("tcp", to, reason)
		return false
	}
	admitted, answer := e.admitTCP(id)
	if !admitted {
		if !answer {
			e.s.limited("tcp", to)
		}
		return answer
	}
	if !e.fwd.HandlePacket(id, pkt) { // malformed; the forwarder started nothing
		e.forget(id)
		e.endTCP()
		return false
	}
	return true
}

// refuseTCP returns why a connection to an address is not allowed, or "".
func (e *engine) refuseTCP(to netip.AddrPort) string {
	if to.Addr() != tun.Gateway() {
		return e.s.judge(to.Addr()).Reason
	}
	if _, ok := e.s.cfg.Services[to.Port()]; !ok && to.Port() != dnsPort {
		return "no service on this port"
	}
	return ""
}

// admitTCP puts a new connection on the books. When it does not, silent says
// whether the SYN is to be ignored (it is a repetition of one that is being
// worked on, or the Stack is closing) rather than answered with a reset.
func (e *engine) admitTCP(id stack.TransportEndpointID) (admitted, silent bool) {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, repeated := e.opening[id]; repeated || s.closing {
		return false, true
	}
	if e.tcp >= s.cfg.Limits.MaxTCP || !s.cfg.Budget.take() {
		return false, false
	}
	e.opening[id] = struct{}{}
	e.tcp++
	s.stats.TCP++
	s.stats.Opened++
	s.work.Add(1) // ended by endTCP
	return true, false
}

// forget ends the opening of a connection, after the forwarder has.
func (e *engine) forget(id stack.TransportEndpointID) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	delete(e.opening, id)
}

// endTCP takes a connection off the books.
func (e *engine) endTCP() {
	s := e.s
	s.mu.Lock()
	e.tcp--
	s.stats.TCP--
	e.endLocked()
	s.mu.Unlock()
	s.cfg.Budget.giveBack()
	s.work.Done()
}

// runTCP is the life of one connection: dial, accept, relay.
func (e *engine) runTCP(r *tcp.ForwarderRequest) {
	defer e.endTCP()
	id := r.ID()
	outer, err := e.dialTCP(local(id))
	if err != nil {
		e.s.log.Debug("outbound connection failed", "to", local(id), "error", err)
		// Where nobody answered, nobody answers: the client's own timeout
		// decides. Everything else is a refusal.
		r.Complete(!timedOut(err))
		e.forget(id)
		return
	}
	c := &tcpRelay{outer: outer, limits: &e.s.cfg.Limits}
	ep, terr := r.CreateEndpoint(&c.events)
	r.Complete(false)
	e.forget(id)
	if terr != nil { // the client went away meanwhile
		reset(outer)
		return
	}
	c.ep = ep
	e.sizeBuffers(c)
	c.run(&e.s.work)
}

// sizeBuffers gives the connection small buffers when there are many.
func (e *engine) sizeBuffers(c *tcpRelay) {
	e.s.mu.Lock()
	many := e.tcp > largeConnections
	e.s.mu.Unlock()
	if many {
		c.ep.SocketOptions().SetReceiveBufferSize(smallBuffer, true)
		c.ep.SocketOptions().SetSendBufferSize(smallBuffer, true)
	}
	// What the function sends has passed Nagle's algorithm, or not, as it
	// chose; what the server sent arrives as it came.
	c.ep.SocketOptions().SetDelayOption(false)
}

// dialTCP opens the outer connection for one that the sandbox makes to an
// address which refuseTCP let pass.
func (e *engine) dialTCP(to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(e.s.ctx, e.s.cfg.Limits.DialTimeout)
	defer cancel()
	if to.Addr() == tun.Gateway() {
		if service, ok := e.s.cfg.Services[to.Port()]; ok {
			return service(ctx)
		}
		return e.dialResolver(ctx)
	}
	c, err := e.s.cfg.Dialer(ctx, "tcp4", to.String())
	if err != nil {
		return nil, err
	}
	if v := e.s.judgeDialled(c); !v.OK {
		e.s.refused("tcp", to, v.Reason)
		reset(c)
		return nil, fmt.Errorf("refused: %s", v.Reason)
	}
	return c, nil
}

// dialResolver connects to the first resolver that accepts TCP.
func (e *engine) dialResolver(ctx context.Context) (net.Conn, error) {
	err := errNoResolver
	for _, r := range e.s.cfg.Resolvers {
		attempt, cancel := context.WithTimeout(ctx, e.s.cfg.Limits.DNSTimeout)
		c, dialErr := e.s.cfg.Dialer(attempt, "tcp", r.String())
		cancel()
		if dialErr == nil {
			return c, nil
		}
		err = dialErr
	}
	return nil, err
}

// timedOut tells whether a dial failed for want of an answer.
func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ETIMEDOUT)
}

// reset closes a connection in a way that tells the other side of a failure.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // an error means it is closed already
	}
	_ = c.Close()
}

// Masks of the machinery's events.
const (
	readable = waiter.ReadableEvents
	writable = waiter.WritableEvents
	hangup   = waiter.EventHUp | waiter.EventErr
)
