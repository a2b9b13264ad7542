package runtimeapi

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// A client that leaves Nagle's algorithm on, as hyper does, sends each small
// piece of a stream when the one before is acknowledged. The kernel's delayed
// acknowledgement would take 40 ms of every such response.
func TestPiecesOfNaglingClientsComeAtOnce(t *testing.T) {
	const responses, first, delayed = 20, 5, 40 * time.Millisecond
	r := newRig(t)
	r.receiver = discard{}
	fastest := time.Hour
	c := r.dial()
	if err := c.(*net.TCPConn).SetNoDelay(false); err != nil {
		t.Fatal(err)
	}
	for i := range responses { // on one connection: the first packets of a new one are acknowledged at once
		began := time.Now()
		for _, piece := range []string{
			"POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n!\r\n",
			"1\r\na\r\n", "1\r\nb\r\n", "1\r\nc\r\n", "0\r\n\r\n",
		} {
			if _, err := fmt.Fprint(c, piece); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, 1024)
		n, err := c.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 202 ") {
			t.Fatalf("got %q, %v", buf[:n], err)
		}
		if i >= first {
			fastest = min(fastest, time.Since(began))
		}
	}
	if fastest >= delayed/2 {
		t.Errorf("the fastest response took %v: acknowledgements are delayed", fastest)
	}
}

type discard struct{}

func (discard) Begin(ResponseHead)  {}
func (discard) Receive(piece *Body) { piece.Release() }
