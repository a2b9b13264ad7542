package sandboxtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

func reachRows() []row {
	return []row{
		{"dial", "Dial reaches what listens on the sandbox's own loopback", nil, dial},
		{"dial by name", "programs inside may listen on the names sandbox and sandbox.localdomain",
			need("names of its own", isolated), dialByName},
		{"dial elsewhere", "Dial reaches the listener of this sandbox and of no other one", need("a network of its own", isolated), dialElsewhere},
		{"dial refused", "Dial fails at once with ECONNREFUSED when nobody listens", nil, dialRefused},
		{"dial a busy listener", "Dial waits for a listener that does not accept, as long as its context lets it", nil, dialBusy},
		{"dial while frozen", "Dial of a frozen sandbox connects or waits for Thaw, and hinders nothing else", nil, dialFrozen},
		{"many dials", "a connection that was closed leaves nothing behind", nil, dialMany},
		{"dial after close", "after Close Dial and Daemon say ErrClosed", nil, dialClosed},
		{"daemon", "Daemon receives what processes send to DaemonAddr, over resets and freezes", nil, daemon},
		{"daemon taken", "Daemon says EADDRINUSE when a process has the address, and works when that one is gone",
			need("a network of its own", isolated), daemonTaken},
		{"extra descriptors", "Extra become 3, 4, ... in order, whatever else is given", nil, extraDescriptors},
		{"extra descriptors of one", "Extra are of one process alone, and the caller holds the last copy after its end", nil, extraOfOne},
		{"too many extra descriptors", "a Command with too many or missing descriptors starts nothing", nil, extraBad},
	}
}

// dialled is a connection to port inside, which the row's end closes.
func (b *box) dialled(port int) net.Conn {
	b.rig.Helper()
	c, err := b.Dial(b.rig.context(), port)
	if err != nil {
		b.rig.Fatalf("dial: %v", err)
	}
	b.rig.Cleanup(func() { _ = c.Close() })
	return c
}

// echoes fails the row unless the other end of c answers with text.
func (r *rig) echoes(c net.Conn, text string) {
	r.Helper()
	if err := echoed(c, text, r.cfg.Patience); err != nil {
		r.Fatal(err)
	}
}

func echoed(c net.Conn, text string, patience time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		return fmt.Errorf("echo of %q: %q, %w", text, got, err)
	}
	return nil
}

func dial(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	port := agent.must(order{Do: "echo", Text: "127.0.0.1:0"}).N
	for i := range 5 {
		c := b.dialled(port)
		r.echoes(c, fmt.Sprintf("hello %d", i))
		if got := c.RemoteAddr().(*net.TCPAddr).Port; got != port {
			r.Errorf("connected to port %d, want %d", got, port)
		}
	}
	every := agent.must(order{Do: "echo", Text: ":0"}).N
	r.echoes(b.dialled(every), "a listener on all addresses")
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			c, err := b.Dial(r.context(), port)
			if err == nil {
				err = echoed(c, fmt.Sprintf("at once %d", i), r.cfg.Patience)
				_ = c.Close()
			}
			if err != nil {
				r.Error(err)
			}
		})
	}
	group.Wait()
}

func dialByName(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	for _, name := range []string{"sandbox", "sandbox.localdomain"} {
		if got := agent.must(order{Do: "lookup", Text: name}).Text; got != "127.0.0.1" {
			r.Errorf("%s is %q", name, got)
		}
		port := agent.must(order{Do: "echo", Text: name + ":0"}).N
		r.echoes(b.dialled(port), name)
	}
}

func dialElsewhere(r *rig) {
	one, other := r.create(nil), r.create(nil)
	agent, _ := one.serve("agent")
	port := agent.must(order{Do: "echo", Text: "127.0.0.1:0"}).N
	host, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = host.Close() }()
	for _, p := range []int{port, host.Addr().(*net.TCPAddr).Port} {
		if c, err := other.Dial(r.context(), p); !errors.Is(err, syscall.ECONNREFUSED) {
			r.Errorf("port %d: %v, %v, want ECONNREFUSED", p, c, err)
		}
	}
}

func dialRefused(r *rig) {
	b := r.create(nil)
	// A port that was free a moment ago.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		r.Fatal(err)
	}
	begun := time.Now()
	for range 3 {
		if c, err := b.Dial(r.context(), port); !errors.Is(err, syscall.ECONNREFUSED) {
			r.Errorf("%v, %v, want ECONNREFUSED", c, err)
		}
	}
	if took := time.Since(begun); took > r.cfg.Patience/2 {
		r.Errorf("took %v", took)
	}
	if c, err := b.Dial(r.context(), 70_000); err == nil {
		r.Errorf("port 70000: %v", c)
	}
}

func dialBusy(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	port := agent.must(order{Do: "narrow"}).N
	full := false
	for range 8 {
		ctx, cancel := context.WithTimeout(context.Background(), quietTime)
		c, err := b.Dial(ctx, port)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
			full = true
			break
		}
		if err != nil {
			r.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	if !full {
		r.Fatal("the listener takes connections without end")
	}
	late := make(chan error, 1)
	go func() {
		c, err := b.Dial(r.context(), port)
		if err == nil {
			err = echoed(c, "late", r.cfg.Patience)
			_ = c.Close()
		}
		late <- err
	}()
	agent.must(order{Do: "drain"})
	if err := <-late; err != nil {
		r.Error(err)
	}
}

func dialFrozen(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	port := agent.must(order{Do: "echo", Text: "127.0.0.1:0"}).N
	for round := range 3 {
		b.freeze()
		for range 30 {
			ctx, cancel := context.WithTimeout(context.Background(), quietTime/20)
			c, err := b.Dial(ctx, port)
			cancel()
			if err == nil {
				_ = c.Close()
			} else if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
				r.Fatalf("frozen: %v", err)
			}
		}
		waiting := make(chan error, 4)
		for i := range cap(waiting) {
			go func() {
				c, err := b.Dial(r.context(), port)
				if err == nil {
					err = echoed(c, fmt.Sprintf("thawed %d", i), r.cfg.Patience)
					_ = c.Close()
				}
				waiting <- err
			}()
		}
		b.thaw()
		for range cap(waiting) {
			if err := <-waiting; err != nil {
				r.Fatalf("round %d: %v", round, err)
			}
		}
		agent.must(order{Do: "ping"})
	}
	b.freeze()
	waiting := make(chan error, 4)
	for range cap(waiting) {
		go func() {
			c, err := b.Dial(r.context(), port)
			if err == nil {
				_ = c.Close()
			}
			waiting <- err
		}()
	}
	if err := b.Close(); err != nil {
		r.Error(err)
	}
	for range cap(waiting) {
		select {
		case <-waiting: // whatever it is
		case <-time.After(r.cfg.Patience):
			r.Fatal("a Dial outlives the sandbox")
		}
	}
}

// openFiles counts the suite's own descriptors, where the host tells.
func openFiles() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

func dialMany(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	port := agent.must(order{Do: "echo", Text: "127.0.0.1:0"}).N
	r.echoes(b.dialled(port), "first")
	before := openFiles()
	for range 300 {
		c, err := b.Dial(r.context(), port)
		if err != nil {
			r.Fatal(err)
		}
		if err := c.Close(); err != nil {
			r.Fatal(err)
		}
		if _, err := b.Dial(r.context(), 1); !errors.Is(err, syscall.ECONNREFUSED) {
			r.Fatalf("port 1: %v", err)
		}
	}
	if after := openFiles(); after > before+20 { // others come and go meanwhile
		r.Errorf("%d descriptors, %d before", after, before)
	}
}

func dialClosed(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	port := agent.must(order{Do: "echo", Text: "127.0.0.1:0"}).N
	c := b.dialled(port)
	d, err := b.Daemon(r.context())
	if err != nil {
		r.Fatal(err)
	}
	unused := r.create(nil)
	for _, sb := range []*box{b, unused} {
		if err := sb.Close(); err != nil {
			r.Fatal(err)
		}
		if _, err := sb.Dial(r.context(), port); !errors.Is(err, sandbox.ErrClosed) {
			r.Errorf("Dial: %v", err)
		}
		if _, err := sb.Daemon(r.context()); !errors.Is(err, sandbox.ErrClosed) {
			r.Errorf("Daemon: %v", err)
		}
	}
	if _, _, err := d.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		r.Errorf("the daemon's socket: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(r.cfg.Patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		r.Errorf("a connection to a closed sandbox: %v", err)
	}
}

func daemon(r *rig) {
	b := r.create(nil)
	d, err := b.Daemon(r.context())
	if err != nil {
		r.Fatal(err)
	}
	if again, err := b.Daemon(r.context()); err != nil || again != d {
		r.Errorf("the second call: %v, %v", again, err)
	}
	if other, err := r.create(nil).Daemon(r.context()); err != nil || other == d {
		r.Errorf("another sandbox: %v, %v", other, err)
	}
	receive := func(want string) {
		r.Helper()
		buf := make([]byte, 64<<10)
		_ = d.SetReadDeadline(time.Now().Add(r.cfg.Patience))
		n, _, err := d.ReadFrom(buf)
		if err != nil || string(buf[:n]) != want {
			r.Fatalf("%q, %v, want %q", buf[:n], err, want)
		}
	}
	agent, _ := b.serve("agent")
	segment := "{\"format\":\"json\",\"version\":1}\n" + strings.Repeat("x", 60<<10)
	for _, text := range []string{"one", segment} {
		agent.must(order{Do: "send", Text: b.DaemonAddr() + " " + text})
		receive(text)
	}
	agent.must(order{Do: "send", Text: b.DaemonAddr() + " before the freeze"})
	b.freeze()
	receive("before the freeze")
	b.thaw()
	if err := b.Reset(r.context()); err != nil {
		r.Fatal(err)
	}
	after, _ := b.serve("after")
	after.must(order{Do: "send", Text: b.DaemonAddr() + " after the reset"})
	receive("after the reset")
}

func daemonTaken(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	agent.must(order{Do: "packets", Text: b.DaemonAddr()})
	if d, err := b.Daemon(r.context()); !errors.Is(err, syscall.EADDRINUSE) {
		r.Errorf("%v, %v, want EADDRINUSE", d, err)
	}
	if err := b.Reset(r.context()); err != nil {
		r.Fatal(err)
	}
	if _, err := b.Daemon(r.context()); err != nil {
		r.Errorf("after the reset: %v", err)
	}
}

// pipes are n pipes whose write ends are to be passed on.
func (r *rig) pipes(n int) (reads, writes []*os.File) {
	r.Helper()
	for range n {
		in, out, err := os.Pipe()
		if err != nil {
			r.Fatal(err)
		}
		r.Cleanup(func() {
			_ = in.Close()
			_ = out.Close()
		})
		_ = in.SetReadDeadline(time.Now().Add(r.cfg.Patience))
		reads, writes = append(reads, in), append(writes, out)
	}
	return reads, writes
}

func extraDescriptors(r *rig) {
	b := r.create(nil)
	for _, n := range []int{1, 2, 5, sandbox.MaxExtra} {
		for _, given := range []bool{false, true} {
			reads, writes := r.pipes(n)
			cmd := b.command("tell", fmt.Sprint(n))
			cmd.Extra = writes
			var exit sandbox.Exit
			var stderr string
			if given {
				_, stderr, exit = b.output(cmd)
			} else {
				exit = r.exit(b.start(cmd))
			}
			if exit.Code != 0 || exit.Signal != 0 {
				r.Fatalf("%d descriptors, output given: %t: %+v %s", n, given, exit, stderr)
			}
			for i, in := range reads {
				_ = writes[i].Close()
				// To the end: no copy is left anywhere.
				got, err := io.ReadAll(in)
				if want := fmt.Sprint("descriptor ", 3+i); string(got) != want || err != nil {
					r.Errorf("%q, %v, want %q", got, err, want)
				}
			}
		}
	}
}

func extraOfOne(r *rig) {
	b := r.create(nil)
	reads, writes := r.pipes(2)
	cmd := b.command("serve", b.APIAddr(), "holder")
	cmd.Extra = writes
	holder := b.start(cmd)
	b.expect("holder")
	for _, w := range writes {
		_ = w.Close()
	}
	if rep := b.readReport(b.command("report")); len(rep.Descriptors) != 0 {
		r.Errorf("another process has %q", rep.Descriptors)
	}
	later := b.start(b.command("serve", b.APIAddr(), "later"))
	b.expect("later")
	if err := holder.Signal(syscall.SIGKILL); err != nil {
		r.Fatal(err)
	}
	r.exit(holder)
	for _, in := range reads {
		if got, err := io.ReadAll(in); len(got) != 0 || err != nil {
			r.Errorf("%q, %v, want the end", got, err)
		}
	}
	select {
	case <-later.Done():
		r.Error("the other process ended too")
	default:
	}
}

func extraBad(r *rig) {
	b := r.create(nil)
	_, writes := r.pipes(sandbox.MaxExtra + 1)
	for name, extra := range map[string][]*os.File{"too many": writes, "a missing one": {writes[0], nil}} {
		cmd := b.command("exit", "0")
		cmd.Extra = extra
		if p, err := b.Start(r.context(), cmd); err == nil {
			r.Errorf("%s: started, %+v", name, r.exit(p))
		}
	}
	if exit := r.exit(b.start(b.command("exit", "3"))); exit.Code != 3 {
		r.Errorf("afterwards: %+v", exit)
	}
}
