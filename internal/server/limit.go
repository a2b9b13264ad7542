package server

import (
	"net"
	"sync"
)

// maxConnections bounds the connections of the API's listener: each costs a
// descriptor and some 20 KB. Further ones wait in the kernel's queue until one
// ends; slow ones end by the time limits of awswire.NewServer.
const maxConnections = 4096

// limitedListener accepts while fewer connections than its room are open.
type limitedListener struct {
	net.Listener
	room   chan struct{} // holds one token for each open connection
	closed chan struct{}
	once   sync.Once
}

func limitListener(l net.Listener, most int) *limitedListener {
	return &limitedListener{Listener: l, room: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept waits for room, then for a connection.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return &limitedConn{Conn: c, leave: l.leave()}, nil
	}
	return &limitedTCP{TCPConn: tcp, leave: l.leave()}, nil
}

// leave gives the room of one connection back, once.
func (l *limitedListener) leave() func() { return sync.OnceFunc(func() { <-l.room }) }

// Close also ends an Accept that waits for room.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedTCP keeps what net/http makes of a TCP connection: files are sent
// without being copied through firn.
type limitedTCP struct {
	*net.TCPConn
	leave func()
}

// Close gives the room back.
func (c *limitedTCP) Close() error {
	c.leave()
	return c.TCPConn.Close()
}

type limitedConn struct {
	net.Conn
	leave func()
}

// Close gives the room back.
func (c *limitedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
