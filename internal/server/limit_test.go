package server

import (
	"errors"
	"net"
	"testing"
	"time"
)

func TestLimitedListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limitListener(inner, 2)
	defer l.Close()
	accepted := make(chan net.Conn)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	var open []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for range 2 {
		open = append(open, <-accepted)
	}
	select {
	case <-accepted:
		t.Error("a third connection is accepted")
	case <-time.After(50 * time.Millisecond):
	}
	// Closing twice makes room for one.
	open[0].Close()
	open[0].Close()
	third := <-accepted
	defer third.Close()
	if len(l.room) != 2 {
		t.Errorf("%d of 2 places are taken", len(l.room))
	}
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a waiting Accept ends with %v", err)
	}
	open[1].Close()
}
