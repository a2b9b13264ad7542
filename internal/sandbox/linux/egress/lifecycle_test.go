//go:build linux

package egress_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/egress"
	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

func TestLimits(t *testing.T) {
	needNetwork(t)
	address := serve(t, hostPrivate, echo)
	t.Run("connections", func(t *testing.T) {
		b := newBox(t, egress.Config{Policy: allowPrivate(), Limits: egress.Limits{MaxTCP: 2}})
		first := b.connect("tcp4", address)
		b.connect("tcp4", address)
		if _, err := b.dial(t.Context(), "tcp4", address); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("third: %v, want ECONNREFUSED", err)
		}
		first.Close()
		eventually(t, "a place is free", func() bool { return b.stack.Stats().TCP == 1 })
		b.connect("tcp4", address)
		if s := b.stack.Stats(); s.Limited != 1 {
			t.Errorf("stats %+v, want 1 limited", s)
		}
	})
	t.Run("shared budget", func(t *testing.T) {
		budget := egress.NewBudget(1)
		one := newBox(t, egress.Config{Policy: allowPrivate(), Budget: budget})
		two := newBox(t, egress.Config{Policy: allowPrivate(), Budget: budget})
		c := one.connect("tcp4", address)
		if _, err := two.dial(t.Context(), "tcp4", address); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("second: %v, want ECONNREFUSED", err)
		}
		c.Close()
		eventually(t, "budget given back", func() bool { return one.stack.Stats().TCP == 0 })
		two.connect("tcp4", address)
	})
	t.Run("idle", func(t *testing.T) {
		b := newBox(t, egress.Config{Policy: allowPrivate(), Limits: egress.Limits{TCPIdle: 60 * time.Millisecond}})
		c := b.connect("tcp4", address)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("got %v, want ECONNRESET", err)
		}
	})
	t.Run("half closed", func(t *testing.T) {
		deaf := serve(t, hostPrivate, func(c net.Conn) {
			_, _ = io.Copy(io.Discard, c)
			_, _ = c.Write([]byte("x"))
			<-t.Context().Done() // and never closes
		})
		b := newBox(t, egress.Config{Policy: allowPrivate(), Limits: egress.Limits{HalfClosed: 60 * time.Millisecond}})
		c := b.connect("tcp4", deaf).(*net.TCPConn)
		_ = c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != "x" || !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("got %q, %v, want x and ECONNRESET", got, err)
		}
	})
	t.Run("undelivered rest", func(t *testing.T) {
		flood := serve(t, hostPrivate, func(c net.Conn) { _, _ = c.Write(make([]byte, 6<<20)) })
		b := newBox(t, egress.Config{Policy: allowPrivate(), Limits: egress.Limits{Drain: 50 * time.Millisecond, TCPIdle: 200 * time.Millisecond}})
		c := b.connect("tcp4", flood).(*net.TCPConn)
		_ = c.CloseWrite() // and never read
		eventually(t, "connection ended by limits", func() bool { return b.stack.Stats().TCP == 0 })
	})
}

func TestMachineryRestsAndWakes(t *testing.T) {
	needNetwork(t)
	address := serve(t, hostPrivate, echo)
	b := newBox(t, egress.Config{Policy: allowPrivate(), Limits: egress.Limits{Linger: 20 * time.Millisecond}})
	for range 3 {
		c := b.connect("tcp4", address)
		if err := exchange(c, 10_000, 1); err != nil {
			t.Fatal(err)
		}
		c.Close()
		eventually(t, "machinery dropped", func() bool { return !b.stack.Stats().Awake })
	}
}

func TestCloseWhileBusy(t *testing.T) {
	needNetwork(t)
	address := serve(t, hostPrivate, echo)
	before := runtime.NumGoroutine()
	b := newBox(t, egress.Config{
		Policy:    allowPrivate(),
		Resolvers: []netip.AddrPort{netip.MustParseAddrPort(hostPrivate + ":9")},
		Dialer: func(ctx context.Context, network, to string) (net.Conn, error) {
			if strings.HasPrefix(to, "1.1.1.1") { // a dial that hangs
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		},
	})
	var wg sync.WaitGroup
	for range 20 {
		c := b.connect("tcp4", address)
		wg.Go(func() { _, _ = io.Copy(c, rand.NewChaCha8([32]byte{})) })
		wg.Go(func() { _, _ = io.Copy(io.Discard, c) })
	}
	udp := b.connect("udp4", address)
	_, _ = udp.Write([]byte("x"))
	dns := b.connect("udp4", "169.254.76.1:53")
	_, _ = dns.Write(question("example.com", 7))
	ctx, giveUp := context.WithTimeout(t.Context(), 10*time.Second)
	defer giveUp()
	wg.Go(func() {
		if c, err := b.dial(ctx, "tcp4", "1.1.1.1:80"); err == nil {
			t.Error("a dial that hangs succeeded")
			c.Close()
		}
	})
	eventually(t, "all is going on", func() bool { s := b.stack.Stats(); return s.TCP == 21 && s.UDP == 1 && s.Queries == 1 })

	b.closeAtOnce()
	// The clients' side: their interface is gone, so they are broken here.
	b.breakClients()
	giveUp()
	wg.Wait()
	eventually(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= before+4 })
	if s := goroutines(); strings.Contains(s, "egress.(*") || strings.Contains(s, "gvisor.dev") {
		t.Errorf("goroutines of the package are left:\n%s", s)
	}
}

// closeAtOnce closes the stack from several sides and checks what is left.
func (b *box) closeAtOnce() {
	b.t.Helper()
	start := time.Now()
	var closers sync.WaitGroup
	for range 3 {
		closers.Go(func() {
			if err := b.stack.Close(); err != nil {
				b.t.Error(err)
			}
		})
	}
	closers.Wait()
	if d := time.Since(start); d > 3*time.Second {
		b.t.Errorf("closing took %v", d)
	}
	if s := b.stack.Stats(); s.TCP != 0 || s.UDP != 0 || s.Awake {
		b.t.Errorf("after closing: %+v", s)
	}
	err := b.within(func() error { _, err := net.InterfaceByName(tun.Name); return err })
	if err == nil {
		b.t.Error("the interface is still there")
	}
}

func goroutines() string {
	buf := make([]byte, 4<<20)
	return string(bytes.TrimSpace(buf[:runtime.Stack(buf, true)]))
}

func TestNewWantsANonBlockingFile(t *testing.T) {
	needNetwork(t)
	n := newNetwork(t)
	if _, err := egress.New(egress.Config{TUN: n.file}); !errors.Is(err, egress.ErrNotPollable) {
		t.Errorf("got %v, want ErrNotPollable", err)
	}
	if _, err := egress.New(egress.Config{}); err == nil {
		t.Error("no error without a TUN file")
	}
}

// The last process of the namespace, and firn's own hold on it, may be gone
// before Close.
func TestNamespaceIsLeftFirst(t *testing.T) {
	n := newNetwork(t)
	f, err := egress.OpenTUN(n.file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := egress.New(egress.Config{TUN: f})
	if err != nil {
		t.Fatal(err)
	}
	n.file.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
