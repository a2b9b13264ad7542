package e2e

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/smithy-go"
)

// TestShutdown ends firn by signals with invocations in flight: they finish
// or are told, extensions hear of it, and nothing is left.
func TestShutdown(t *testing.T) {
	t.Parallel()
	if !inside(t) {
		return
	}
	t.Run("linux, SIGINT", func(t *testing.T) { endsInOrder(t, "linux", syscall.SIGINT) })
	t.Run("linux, SIGTERM", func(t *testing.T) { endsInOrder(t, "linux", syscall.SIGTERM) })
	t.Run("process, SIGTERM", func(t *testing.T) { endsInOrder(t, "process", syscall.SIGTERM) })
	t.Run("linux, two signals", func(t *testing.T) { endsAtOnce(t, "linux") })
	t.Run("process, two signals", func(t *testing.T) { endsAtOnce(t, "process") })
}

// busy starts firn with functions that have extensions, and leaves one
// environment idle and two invocations in flight: one short, one too long.
func busy(t *testing.T, sandbox, drain string) (n *node, short, long chan told) {
	t.Helper()
	n = start(t, options{sandbox: sandbox, args: []string{"--network", network(), "--drain-timeout", drain}})
	layer := n.layer("extension", "watcher")
	n.create("idle", function{layers: []string{layer}, handler: "sigterm"})
	n.create("working", function{layers: []string{layer}, timeout: 300})
	n.succeed("idle", order{Do: "daemon", Arg: "spin"})
	if sandbox == "linux" { // the other has the host's /tmp
		n.succeed("idle", order{Do: "fill", Arg: "/tmp/some", N: 5})
	}
	short, long = make(chan told, 1), make(chan told, 1)
	call := func(o order, to chan told) {
		a, err := n.tryInvoke(context.Background(), "working", o)
		to <- told{a, err}
	}
	go call(order{Do: "sleep", Ms: 2000, Print: "the short one begins"}, short)
	go call(order{Do: "sleep", Ms: 250_000, Print: "the long one begins"}, long)
	for _, text := range []string{"the short one begins", "the long one begins"} {
		select {
		case <-n.out.await(text):
		case <-time.After(patience):
			t.Fatalf("%s does not come", text)
		}
	}
	return n, short, long
}

// told is what a caller got.
type told struct {
	answer
	err error
}

func endsInOrder(t *testing.T, sandbox string, sig syscall.Signal) {
	before := look(t)
	n, short, long := busy(t, sandbox, "5s")
	// As a terminal does it: to the whole group.
	if err := syscall.Kill(-n.cmd.Process.Pid, sig); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if s := <-short; s.err != nil || s.failure != "" || s.payload != `"done"` {
		t.Errorf("the invocation that fits the drain time: %v %s %s", s.err, s.failure, s.payload)
	}
	checkTold(t, <-long)
	if took := time.Since(begun); took < 4*time.Second {
		t.Errorf("the drain time of 5 s was over after %v", took)
	}
	if err := n.wait(); err != nil {
		t.Errorf("firn ended with %v", err)
	}
	log := n.out.String()
	if !strings.Contains(log, "watcher received SHUTDOWN spindown") || !strings.Contains(log, "runtime received SIGTERM") {
		t.Errorf("the idle environment was not shut down by the book:\n%s", tail(log, 3000))
	}
	if left := look(t, n.data).more(withDir(before, n.data)); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// checkTold looks at what the caller of an invocation that was ended gets: a
// failure in Lambda's form, not a broken connection.
func checkTold(t *testing.T, got told) {
	t.Helper()
	var api smithy.APIError
	if got.err != nil && !errors.As(got.err, &api) || got.err == nil && !strings.Contains(got.payload, "Sandbox.Failure") {
		t.Errorf("the invocation that was ended: %v %s %s", got.err, got.failure, got.payload)
	}
}

func endsAtOnce(t *testing.T, sandbox string) {
	before := look(t)
	n, short, long := busy(t, sandbox, "10m")
	n.signal(syscall.SIGINT)
	if s := <-short; s.err != nil || s.failure != "" {
		t.Errorf("after one signal an invocation goes on: %v %s %s", s.err, s.failure, s.payload)
	}
	begun := time.Now()
	n.signal(syscall.SIGINT)
	checkTold(t, <-long)
	if err := n.wait(); err != nil {
		t.Errorf("firn ended with %v", err)
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("after the second signal it took %v", took)
	}
	if left := look(t, n.data).more(withDir(before, n.data)); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}
