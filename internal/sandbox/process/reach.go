package process

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// listenDaemon opens the X-Ray daemon's socket on the address of the Runtime
// API, so that each sandbox has its own. It is open from the beginning, because
// its port is not known before.
func listenDaemon(api net.Addr) (*net.UDPConn, error) {
	tcp, ok := api.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("the Runtime API listens on %v", api)
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: tcp.IP})
	if err != nil {
		return nil, fmt.Errorf("listen for the X-Ray daemon: %w", err)
	}
	return c, nil
}

// Dial connects to the host's loopback: there is no other.
func (s *box) Dial(ctx context.Context, port int) (net.Conn, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("sandbox %s: dial port %d: %w", s.spec.ID, port, err)
	}
	return c, nil
}

// DaemonAddr is the address of Daemon.
func (s *box) DaemonAddr() string { return s.daemon.LocalAddr().String() }

// Daemon is open from the beginning.
func (s *box) Daemon(ctx context.Context) (net.PacketConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s.daemon, nil
}
