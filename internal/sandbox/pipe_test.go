package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// collector is a sink that keeps everything.
type collector struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (c *collector) sink(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all.Write(p)
}

func (c *collector) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.String()
}

func newTestPipe(t *testing.T, sink func([]byte)) (*Pipe, *os.File) {
	t.Helper()
	p, w, err := NewPipe(sink)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.Close()
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p, w
}

func waitDone(t *testing.T, p *Pipe) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the reader has not ended")
	}
}

// Every line written before Drain is delivered when Drain returns, each once
// and in order, whether it or the reader took it.
func TestPipeDrainDeliversWhatWasWrittenBefore(t *testing.T) {
	var got collector
	p, w := newTestPipe(t, got.sink)
	var want strings.Builder
	for i := range 2000 {
		line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", i%300))
		want.WriteString(line)
		if _, err := w.WriteString(line); err != nil {
			t.Fatal(err)
		}
		p.Drain()
		if got.String() != want.String() {
			t.Fatalf("after line %d: %d bytes delivered, want %d", i, len(got.String()), want.Len())
		}
	}
}

// Order holds between the reader and many concurrent Drains.
func TestPipeKeepsOrderUnderConcurrentDrains(t *testing.T) {
	var got collector
	p, w := newTestPipe(t, got.sink)
	stop := make(chan struct{})
	var drains sync.WaitGroup
	for range 4 {
		drains.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.Drain()
				}
			}
		})
	}
	var want strings.Builder
	for i := range 20000 {
		line := fmt.Sprintf("%d\n", i)
		want.WriteString(line)
		if _, err := w.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	drains.Wait()
	p.Drain()
	if got.String() != want.String() {
		t.Fatal("bytes lost, repeated or out of order")
	}
}

// A writer that never stops cannot keep Drain from returning.
func TestPipeDrainEndsUnderFlood(t *testing.T) {
	p, w := newTestPipe(t, func([]byte) {})
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		block := bytes.Repeat([]byte("flood\n"), 4096)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}
	})
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for range 100 {
			p.Drain()
		}
	}()
	select {
	case <-drained:
	case <-time.After(20 * time.Second):
		t.Error("Drain does not return while a writer floods")
	}
	close(stop)
	writer.Wait()
}

// All that was written is delivered before Done closes at the end of file.
func TestPipeEndOfFile(t *testing.T) {
	var got collector
	p, w := newTestPipe(t, got.sink)
	want := strings.Repeat("0123456789", 50_000)
	if _, err := w.WriteString(want); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	waitDone(t, p)
	if got.String() != want {
		t.Fatalf("%d bytes delivered, want %d", len(got.String()), len(want))
	}
	p.Drain()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// Close ends a parked reader although a writer still holds the pipe open, is
// idempotent, and nothing is delivered after it.
func TestPipeCloseEndsParkedReader(t *testing.T) {
	var got collector
	p, w := newTestPipe(t, got.sink)
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	waitDone(t, p)
	_, _ = w.WriteString("too late")
	p.Drain()
	if got.String() != "" {
		t.Fatalf("delivered after Close: %q", got.String())
	}
}

// Close waits for a sink that is at work.
func TestPipeCloseWaitsForSink(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	p, w := newTestPipe(t, func([]byte) { close(entered); <-release })
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	<-entered
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	select {
	case <-closed:
		t.Fatal("Close returned while the sink was running")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}

// A blocking sink holds the writer back and loses nothing.
func TestPipeBackPressure(t *testing.T) {
	var got collector
	release := make(chan struct{})
	_, w := newTestPipe(t, func(p []byte) { <-release; got.sink(p) })
	want := strings.Repeat("y", 1<<20)
	wrote := make(chan error, 1)
	go func() {
		_, err := w.WriteString(want)
		wrote <- err
	}()
	select {
	case <-wrote:
		t.Fatal("a megabyte went into a pipe that nobody reads")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// The write end is blocking, as a program expects of its standard output, and
// it is not inherited by processes that it was not given to.
func TestPipeWriteEnd(t *testing.T) {
	var got collector
	p, w := newTestPipe(t, got.sink)
	flags, err := unix.FcntlInt(w.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Fatalf("flags %#x, %v: want a blocking descriptor", flags, err)
	}
	if flags, err = unix.FcntlInt(w.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Fatalf("flags %#x, %v: want close-on-exec", flags, err)
	}
	cmd := exec.Command("/bin/sh", "-c", "echo from a process")
	cmd.Stdout = w
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	p.Drain()
	if got.String() != "from a process\n" {
		t.Fatalf("got %q", got.String())
	}
}

func BenchmarkPipeLineAndDrain(b *testing.B) {
	p, w, err := NewPipe(func([]byte) {})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = w.Close(); _ = p.Close() }()
	line := []byte("a line of the usual length, as functions write them, with some words\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Write(line); err != nil {
			b.Fatal(err)
		}
		p.Drain()
	}
}
