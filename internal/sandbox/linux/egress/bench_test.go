//go:build linux

package egress_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox/linux/egress"
)

func quiet() egress.Config {
	return egress.Config{Policy: allowPrivate(), Logger: slog.New(slog.DiscardHandler)}
}

// BenchmarkSetUp is OpenTUN and New, in a namespace that exists.
func BenchmarkSetUp(b *testing.B) {
	needNetwork(b)
	for b.Loop() {
		b.StopTimer()
		n := newNetwork(b)
		b.StartTimer()
		f, err := egress.OpenTUN(n.file)
		if err != nil {
			b.Fatal(err)
		}
		cfg := quiet()
		cfg.TUN = f
		s, err := egress.New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.Close()
		n.file.Close()
		b.StartTimer()
	}
}

// BenchmarkFirstDial is a connection from a sandbox whose stack is asleep.
func BenchmarkFirstDial(b *testing.B) {
	needNetwork(b)
	address := serve(b, hostPrivate, echo)
	for b.Loop() {
		b.StopTimer()
		s := newBox(b, quiet())
		b.StartTimer()
		_ = s.within(func() error { return dialOnce(b, address) })
		b.StopTimer()
		s.stack.Close()
		b.StartTimer()
	}
}

func dialOnce(b *testing.B, address string) error {
	c, err := net.Dial("tcp4", address)
	if err != nil {
		b.Error(err)
		return err
	}
	return c.Close()
}

func BenchmarkDial(b *testing.B) {
	needNetwork(b)
	address := serve(b, hostPrivate, echo)
	s := newBox(b, quiet())
	_ = s.within(func() error {
		for b.Loop() {
			_ = dialOnce(b, address)
		}
		return nil
	})
}

// BenchmarkEcho is one byte there and back.
func BenchmarkEcho(b *testing.B) {
	needNetwork(b)
	c := newBox(b, quiet()).connect("tcp4", serve(b, hostPrivate, echo))
	_ = c.SetDeadline(time.Time{})
	one := make([]byte, 1)
	for b.Loop() {
		if _, err := c.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUDPEcho(b *testing.B) {
	needNetwork(b)
	c := newBox(b, quiet()).connect("udp4", serveUDP(b, hostPrivate, same))
	_ = c.SetDeadline(time.Time{})
	one := make([]byte, 1)
	for b.Loop() {
		if _, err := c.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(one); err != nil {
			b.Fatal(err)
		}
	}
}

const chunk = 1 << 20

func BenchmarkUpload(b *testing.B) {
	needNetwork(b)
	c := newBox(b, quiet()).connect("tcp4", serve(b, hostPrivate, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
	_ = c.SetDeadline(time.Time{})
	buf := make([]byte, chunk)
	b.SetBytes(chunk)
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDownload(b *testing.B) {
	needNetwork(b)
	c := newBox(b, quiet()).connect("tcp4", serve(b, hostPrivate, func(c net.Conn) {
		_ = c.SetDeadline(time.Time{})
		buf := make([]byte, chunk)
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	}))
	_ = c.SetDeadline(time.Time{})
	buf := make([]byte, chunk)
	b.SetBytes(chunk)
	for b.Loop() {
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// idleStacks is how many stacks TestIdleCost makes.
const idleStacks = 100

// The cost of a sandbox that does not use its network, and of one that did and
// went quiet: the bounds are what a thousand of them may cost a node.
func TestIdleCost(t *testing.T) {
	needNetwork(t)
	address := serve(t, hostPrivate, echo)
	budget := egress.NewBudget(1000)
	heap := func() (bytes, goroutines int) {
		runtime.GC()
		runtime.GC() // pools give up what they hold in the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()
	}
	var boxes []*box
	heap()
	bytes0, goroutines0 := heap()
	for range idleStacks {
		cfg := quiet()
		cfg.Budget = budget
		boxes = append(boxes, newBox(t, cfg))
	}
	bytes1, goroutines1 := heap()
	per := (bytes1 - bytes0) / idleStacks
	t.Logf("asleep: %d bytes, %.2f goroutines a stack", per, float64(goroutines1-goroutines0)/idleStacks)
	if per > 12<<10 || goroutines1-goroutines0 > idleStacks+5 {
		t.Errorf("a sleeping stack costs %d bytes, and %d have %d goroutines", per, idleStacks, goroutines1-goroutines0)
	}
	for _, b := range boxes {
		c, err := b.dial(context.Background(), "tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	bytes2, goroutines2 := heap()
	t.Logf("with one idle connection: %d bytes, %.2f goroutines more, both ends and the server included",
		(bytes2-bytes1)/idleStacks, float64(goroutines2-goroutines1)/idleStacks)
}
