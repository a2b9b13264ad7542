//go:build linux

package egress_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/egress"
)

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// eventually waits until ok, for things that end on their own.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			buf := make([]byte, 1<<20)
			t.Fatalf("not within 10 s: %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}

func TestTCPReachesAllowedAddress(t *testing.T) {
	needNetwork(t)
	address := serve(t, hostPrivate, echo)
	b := newBox(t, egress.Config{Policy: allowPrivate()})
	if b.stack.Stats().Awake {
		t.Error("the stack is awake before the first packet")
	}
	c := b.connect("tcp4", address)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if s := b.stack.Stats(); s.TCP != 1 || s.Opened != 1 || !s.Awake {
		t.Errorf("stats %+v", s)
	}
	c.Close()
	eventually(t, "connection counted out", func() bool { return b.stack.Stats().TCP == 0 })
}

func TestRefusedAddressesAreReset(t *testing.T) {
	needNetwork(t)
	private := serve(t, hostPrivate, echo)
	public := serve(t, hostPublic, echo)
	b := newBox(t, egress.Config{})
	for _, address := range []string{
		private, public,
		"169.254.169.254:80", "169.254.170.2:80", "192.168.1.1:443", "172.16.0.1:22",
		"100.64.0.1:80", "198.18.0.1:80", "169.254.76.1:80", "169.254.76.1:9001",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		start := time.Now()
		c, err := b.dial(ctx, "tcp4", address)
		cancel()
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: got %v, want ECONNREFUSED", address, err)
		}
		if c != nil {
			c.Close()
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s: refused only after %v", address, d)
		}
	}
	if s := b.stack.Stats(); s.Refused != 10 || s.Opened != 0 {
		t.Errorf("stats %+v, want 10 refused and none opened", s)
	}
}

// The public address is the host's own, but the list was read before it was
// added: the look at the dialled connection has to notice.
func TestOwnAddressIsNoticedAfterTheDial(t *testing.T) {
	needNetwork(t)
	reached := make(chan struct{}, 1)
	address := serve(t, hostPublic, func(c net.Conn) {
		if n, _ := c.Read(make([]byte, 1)); n > 0 {
			reached <- struct{}{}
		}
	})
	none := egress.NewHostAddresses(func() ([]netip.Addr, error) { return nil, nil })
	b := newBox(t, egress.Config{Host: none})
	if _, err := b.dial(t.Context(), "tcp4", address); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v, want ECONNREFUSED", err)
	}
	select {
	case <-reached:
		t.Error("data reached the host's own listener")
	default:
	}
}

func TestUnknownHostAddressesRefuseAll(t *testing.T) {
	needNetwork(t)
	broken := egress.NewHostAddresses(func() ([]netip.Addr, error) { return nil, errors.New("broken") })
	b := newBox(t, egress.Config{Host: broken, Dialer: func(context.Context, string, string) (net.Conn, error) {
		t.Error("dialled")
		return nil, errors.New("dialled")
	}})
	if _, err := b.dial(t.Context(), "tcp4", "1.1.1.1:80"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v, want ECONNREFUSED", err)
	}
}

func TestPublicAddressIsDialledAsItIs(t *testing.T) {
	needNetwork(t)
	address := serve(t, hostPrivate, echo)
	dialled := make(chan string, 1)
	b := newBox(t, egress.Config{Dialer: func(ctx context.Context, network, to string) (net.Conn, error) {
		dialled <- network + " " + to
		// A server elsewhere: another address than the client's own.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
		return d.DialContext(ctx, network, address)
	}})
	c := b.connect("tcp4", "93.184.215.14:443")
	if got := <-dialled; got != "tcp4 93.184.215.14:443" {
		t.Errorf("dialled %q", got)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestServerThatRefusesIsSeenToRefuse(t *testing.T) {
	needNetwork(t)
	l, err := net.Listen("tcp4", hostPrivate+":0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	b := newBox(t, egress.Config{Policy: allowPrivate()})
	if _, err := b.dial(t.Context(), "tcp4", address); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v, want ECONNREFUSED", err)
	}
}

func TestServerThatNeverAnswersTimesOut(t *testing.T) {
	needNetwork(t)
	b := newBox(t, egress.Config{Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, Limits: egress.Limits{DialTimeout: 50 * time.Millisecond}})
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	_, err := b.dial(ctx, "tcp4", "1.1.1.1:80")
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v, want the client's own timeout", err)
	}
}

// Both directions are closed on their own, and the end of one does not cut off
// the other.
func TestHalfClose(t *testing.T) {
	needNetwork(t)
	t.Run("client first", func(t *testing.T) {
		address := serve(t, hostPrivate, func(c net.Conn) {
			all, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(c, "%d bytes", len(all))
		})
		c := newBox(t, egress.Config{Policy: allowPrivate()}).connect("tcp4", address)
		if _, err := c.Write(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != "100000 bytes" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("server first", func(t *testing.T) {
		received := make(chan int, 1)
		address := serve(t, hostPrivate, func(c net.Conn) {
			fmt.Fprint(c, "bye")
			_ = c.(*net.TCPConn).CloseWrite()
			all, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			received <- len(all)
		})
		c := newBox(t, egress.Config{Policy: allowPrivate()}).connect("tcp4", address)
		if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
			t.Fatalf("got %q, %v", got, err)
		}
		if _, err := c.Write(make([]byte, 3_000_000)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if n := <-received; n != 3_000_000 {
			t.Errorf("server got %d bytes", n)
		}
	})
}

func TestResetsPassBothWays(t *testing.T) {
	needNetwork(t)
	t.Run("server resets", func(t *testing.T) {
		address := serve(t, hostPrivate, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
		})
		c := newBox(t, egress.Config{Policy: allowPrivate()}).connect("tcp4", address)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("got %v, want ECONNRESET", err)
		}
	})
	for _, half := range []bool{false, true} {
		t.Run(fmt.Sprintf("client resets, half closed %t", half), func(t *testing.T) {
			ended := make(chan error, 1)
			address := serve(t, hostPrivate, func(c net.Conn) {
				_, _ = io.CopyN(c, c, 1)
				if half {
					_, _ = c.Read(make([]byte, 1)) // the end of the client's data
					for {
						if _, err := c.Write(make([]byte, 1<<10)); err != nil {
							ended <- err
							return
						}
						time.Sleep(time.Millisecond) // archtest:sleep a slow server, not a synchronisation
					}
				}
				_, err := c.Read(make([]byte, 1))
				ended <- err
			})
			b := newBox(t, egress.Config{Policy: allowPrivate()})
			c := b.connect("tcp4", address).(*net.TCPConn)
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if half {
				_ = c.CloseWrite()
				_, _ = c.Read(make([]byte, 1))
			}
			_ = c.SetLinger(0)
			c.Close()
			if err := <-ended; !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
				t.Errorf("server saw %v, want a reset", err)
			}
			eventually(t, "connection counted out", func() bool { return b.stack.Stats().TCP == 0 })
		})
	}
}

// exchange sends size random bytes each way at once and compares hashes.
func exchange(c net.Conn, size int, seed uint64) error {
	var sent, received [32]byte
	var wg sync.WaitGroup
	var writeErr error
	wg.Go(func() {
		h := sha256.New()
		source := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed)))
		_, writeErr = io.CopyN(io.MultiWriter(c, h), source, int64(size))
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		h.Sum(sent[:0])
	})
	h := sha256.New()
	n, err := io.Copy(h, c)
	h.Sum(received[:0])
	wg.Wait()
	if err := errors.Join(err, writeErr); err != nil {
		return err
	}
	if n != int64(size) || sent != received {
		return fmt.Errorf("sent %d bytes, received %d, hashes equal %t", size, n, sent == received)
	}
	return nil
}

func TestParallelConnectionsKeepTheirData(t *testing.T) {
	needNetwork(t)
	address := serve(t, hostPrivate, echo)
	b := newBox(t, egress.Config{Policy: allowPrivate()})
	var wg sync.WaitGroup
	for i := range 64 {
		c := b.connect("tcp4", address)
		wg.Go(func() {
			if err := exchange(c, 300_000+i*7_777, uint64(i)); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	eventually(t, "connections counted out", func() bool { return b.stack.Stats().TCP == 0 })
}

func TestLargeTransfer(t *testing.T) {
	needNetwork(t)
	address := serve(t, hostPrivate, echo)
	c := newBox(t, egress.Config{Policy: allowPrivate()}).connect("tcp4", address)
	if err := exchange(c, 64<<20, 1); err != nil {
		t.Fatal(err)
	}
}

// A sandbox that does not read, as a frozen one, stops the server, and firn
// holds no more than the buffers.
func TestBackPressure(t *testing.T) {
	needNetwork(t)
	var mu sync.Mutex
	written, last := 0, time.Now()
	address := serve(t, hostPrivate, func(c net.Conn) {
		for {
			n, err := c.Write(make([]byte, 64<<10))
			mu.Lock()
			written, last = written+n, time.Now()
			mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	b := newBox(t, egress.Config{Policy: allowPrivate()})
	c := b.connect("tcp4", address)
	eventually(t, "the server stopped writing", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return written > 0 && time.Since(last) > 300*time.Millisecond
	})
	mu.Lock()
	stalled := written
	mu.Unlock()
	if stalled > 32<<20 {
		t.Errorf("%d bytes were taken from a server whose client does not read", stalled)
	}
	// While it lasts, it costs nothing.
	before := cpuTime(t)
	select {
	case <-time.After(300 * time.Millisecond):
	case <-t.Context().Done():
	}
	if used := cpuTime(t) - before; used > 60*time.Millisecond {
		t.Errorf("a stalled connection used %v of processor time in 300 ms", used)
	}
	if n, err := io.CopyN(io.Discard, c, int64(stalled)+1<<20); err != nil {
		t.Errorf("after the pause: %d bytes, %v", n, err)
	}
}

func TestServiceOnGateway(t *testing.T) {
	needNetwork(t)
	b := newBox(t, egress.Config{Services: map[uint16]egress.Service{
		8080: func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { defer ours.Close(); _, _ = io.CopyN(ours, ours, 4) }()
			return theirs, nil
		},
	}})
	c := b.connect("tcp4", "169.254.76.1:8080")
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "ping" {
		t.Errorf("got %q, %v", got, err)
	}
}

// cpuTime is what this process has used so far.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
