package sandboxtest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

func lifetimeRows() []row {
	return []row{
		{"closed sandbox", "calls after Close give ErrClosed, Events is closed, Listener accepts no more", nil, closedSandbox},
		{"close twice", "Close is idempotent and may be called concurrently", nil, closeTwice},
		{"closed backend", "a closed backend has closed its sandboxes and creates no more", nil, closedBackend},
		{"create with a dead context", "Create with an ended context gives its error", nil, createCancelled},
		{"20 at once", "Create and Close may be called concurrently", nil, twentyAtOnce},
		{"close during start", "Close during Start leaves no process behind", nil, closeDuringStart},
		{"backend close during create", "the backend's Close during Create leaves no sandbox behind", nil, closeDuringCreate},
		{"nothing leaks", "sandboxes that come and go leave no descriptor behind", func(Config) string {
			if _, err := os.ReadDir("/proc/self/fd"); err != nil {
				return "/proc/self/fd"
			}
			return ""
		}, nothingLeaks},
		{"own listener", "each sandbox reaches its own listener and no other", nil, ownListener},
	}
}

func closedSandbox(r *rig) {
	b := r.create(nil)
	_, p := b.serve("agent")
	if err := b.Close(); err != nil {
		r.Fatal(err)
	}
	r.exit(p)
	_, startErr := b.Start(r.context(), b.command("exit", "0"))
	_, usageErr := b.Usage()
	for name, err := range map[string]error{
		"Start": startErr, "Usage": usageErr, "Freeze": b.Freeze(), "Thaw": b.Thaw(),
		"SetCPU": b.SetCPU(1), "ResetPeak": b.ResetPeak(), "Reset": b.Reset(r.context()),
	} {
		if !errors.Is(err, sandbox.ErrClosed) {
			r.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	select {
	case _, open := <-b.Events():
		if open {
			r.Error("an event after Close")
		}
	case <-time.After(r.cfg.Patience):
		r.Error("Events is not closed")
	}
	if _, err := b.Listener().Accept(); !errors.Is(err, net.ErrClosed) {
		r.Errorf("Accept after Close: %v, want net.ErrClosed", err)
	}
}

func closeTwice(r *rig) {
	b := r.create(nil)
	b.serve("agent")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := b.Close(); err != nil {
				r.Error(err)
			}
		})
	}
	group.Wait()
	if err := b.Close(); err != nil {
		r.Error(err)
	}
}

func closedBackend(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	for range 2 {
		if err := r.backend.Close(); err != nil {
			r.Fatal(err)
		}
	}
	agent.gone()
	if _, err := b.Usage(); !errors.Is(err, sandbox.ErrClosed) {
		r.Errorf("Usage: %v, want ErrClosed", err)
	}
	if _, err := r.backend.Create(r.context(), r.spec()); !errors.Is(err, sandbox.ErrClosed) {
		r.Errorf("Create: %v, want ErrClosed", err)
	}
}

func createCancelled(r *rig) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.backend.Create(ctx, r.spec()); !errors.Is(err, context.Canceled) {
		r.Errorf("%v, want context.Canceled", err)
	}
}

func twentyAtOnce(r *rig) {
	specs := make([]sandbox.Spec, 20)
	for i := range specs {
		specs[i] = r.spec()
	}
	var group sync.WaitGroup
	for _, spec := range specs {
		group.Go(func() {
			sb, err := r.backend.Create(r.context(), spec)
			if err != nil {
				r.Error(err)
				return
			}
			b := &box{Sandbox: sb, rig: r}
			p, err := sb.Start(r.context(), b.command("wait", b.APIAddr(), "x"))
			if err != nil {
				r.Error(err)
			} else {
				conn, err := sb.Listener().Accept()
				if err != nil {
					r.Error(err)
				} else {
					_ = conn.SetReadDeadline(time.Now().Add(r.cfg.Patience))
					if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
						r.Error(err)
					}
					_ = conn.Close()
				}
			}
			if err := sb.Close(); err != nil {
				r.Error(err)
			}
			if p != nil {
				select {
				case <-p.Done():
				case <-time.After(r.cfg.Patience):
					r.Error("a process outlives Close")
				}
			}
		})
	}
	group.Wait()
}

func closeDuringStart(r *rig) {
	for range 5 {
		b := r.create(nil)
		var starters sync.WaitGroup
		first := make(chan struct{}, 4)
		for range 4 {
			starters.Go(func() {
				for {
					p, err := b.Start(r.context(), b.command("wait", b.APIAddr(), "x"))
					if err != nil {
						if !errors.Is(err, sandbox.ErrClosed) {
							r.Errorf("Start during Close: %v, want ErrClosed", err)
						}
						return
					}
					select {
					case first <- struct{}{}:
					default:
					}
					select {
					case <-p.Done():
					case <-time.After(2 * time.Millisecond):
					}
					defer func() {
						select {
						case <-p.Done():
						case <-time.After(r.cfg.Patience):
							r.Error("a process outlives Close")
						}
					}()
				}
			})
		}
		<-first
		if err := b.Close(); err != nil {
			r.Error(err)
		}
		starters.Wait()
	}
}

func closeDuringCreate(r *rig) {
	first := make(chan struct{}, 4)
	var group sync.WaitGroup
	for i := range 4 {
		spec := r.spec()
		base := spec.ID
		group.Go(func() {
			for n := 0; ; n++ {
				spec.ID = base + "-" + string(rune('a'+i)) + string(rune('a'+n%26))
				sb, err := r.backend.Create(r.context(), spec)
				if err != nil {
					if !errors.Is(err, sandbox.ErrClosed) {
						r.Errorf("Create during Close: %v, want ErrClosed", err)
					}
					return
				}
				select {
				case first <- struct{}{}:
				default:
				}
				if n%2 == 0 { // the others are left to the backend
					if err := sb.Close(); err != nil {
						r.Error(err)
					}
				}
			}
		})
	}
	<-first
	if err := r.backend.Close(); err != nil {
		r.Error(err)
	}
	group.Wait()
}

func nothingLeaks(r *rig) {
	round := func() {
		b := r.create(nil)
		agent, _ := b.serve("agent")
		agent.must(order{Do: "ping"})
		_ = agent.conn.Close()
		if err := b.Close(); err != nil {
			r.Fatal(err)
		}
	}
	for range 3 {
		round() // what is made once and kept
	}
	before := descriptorCount(r)
	for range 10 {
		round()
	}
	for end := time.Now().Add(r.cfg.Patience); descriptorCount(r) > before+2; {
		if time.Now().After(end) {
			r.Fatalf("%d descriptors before, %d after 10 sandboxes", before, descriptorCount(r))
		}
		<-time.After(5 * time.Millisecond) // releasing may go on behind
	}
}

func descriptorCount(r *rig) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		r.Fatal(err)
	}
	return len(entries)
}

func ownListener(r *rig) {
	a, b := r.create(nil), r.create(nil)
	a.start(a.command("wait", a.APIAddr(), "from a"))
	b.start(b.command("wait", b.APIAddr(), "from b"))
	a.expect("from a")
	b.expect("from b")
}
