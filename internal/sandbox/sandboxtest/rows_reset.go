package sandboxtest

import (
	"path/filepath"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

func resetRows() []row {
	return []row{
		{"reset kills all", "Reset ends every process, and their Exit says SIGKILL", nil, resetKills},
		{"reset kills daemons", "a process that left its group and session is killed by Reset",
			need("a hold on daemons", strays), resetDaemons},
		{"reset catches a runner", "a process that hands over to a child and ends, again and again, is caught by Reset",
			need("a hold on daemons", strays), resetRunner},
		{"freeze catches a runner", "a process that hands over to a child and ends, again and again, is caught by Freeze",
			need("a hold on daemons", strays), freezeRunner},
		{"reset keeps /tmp and the listener", "/tmp, network and listener stay over a Reset", nil, resetKeeps},
		{"reset again", "Reset of an empty sandbox, and many in a row, work", nil, resetAgain},
		{"close kills all", "no process outlives Close, not even a daemon",
			need("a hold on daemons", strays), closeKills},
		{"backend close kills all", "no process outlives the backend's Close",
			need("a hold on daemons", strays), backendCloseKills},
		{"orphans are reaped", "a process whose parent has ended is reaped when it ends",
			need("a hold on daemons", strays), orphansReaped},
	}
}

func resetKills(r *rig) {
	b := r.create(nil)
	parent, p := b.serve("parent")
	parent.must(order{Do: "child", Text: "child"})
	child := b.expect("child")
	other := b.start(b.command("trap", b.APIAddr()))
	b.expect("trap")
	if err := b.Reset(r.context()); err != nil {
		r.Fatal(err)
	}
	parent.gone()
	child.gone()
	for _, p := range []sandbox.Process{p, other} {
		if exit := r.exit(p); exit.Signal != syscall.SIGKILL || exit.OutOfMemory {
			r.Errorf("%+v, want SIGKILL", exit)
		}
	}
}

// daemon leaves a daemon behind whose parents have ended.
func (b *box) daemon() *peer {
	b.rig.Helper()
	parent, p := b.serve("parent")
	parent.must(order{Do: "daemon", Text: "daemon"})
	daemon := b.expect("daemon")
	if err := p.Signal(syscall.SIGKILL); err != nil {
		b.rig.Fatal(err)
	}
	b.rig.exit(p)
	daemon.beat()
	return daemon
}

func resetDaemons(r *rig) {
	b := r.create(nil)
	for range 3 {
		daemon := b.daemon()
		if err := b.Reset(r.context()); err != nil {
			r.Fatal(err)
		}
		daemon.gone()
	}
}

// maxHops ends a runner that is not caught.
const maxHops = "20000"

// running starts a runner and waits until it has handed over some times.
func (b *box) running() {
	b.rig.Helper()
	b.start(b.command("run", b.APIAddr(), maxHops))
	for range 5 {
		_ = b.expect("runner").conn.Close()
	}
}

// caught waits until no more hellos come.
func (b *box) caught() {
	b.rig.Helper()
	for end := time.Now().Add(b.rig.cfg.Patience); time.Now().Before(end); {
		select {
		case p := <-b.queue("runner"):
			_ = p.conn.Close()
		case <-time.After(quietTime):
			return
		}
	}
	b.rig.Fatal("the runner is still on its way")
}

func resetRunner(r *rig) {
	b := r.create(nil)
	for range 3 {
		b.running()
		if err := b.Reset(r.context()); err != nil {
			r.Fatal(err)
		}
		b.caught()
	}
}

func freezeRunner(r *rig) {
	b := r.create(nil)
	b.running()
	for range 3 {
		b.freeze()
		b.caught()
		b.thaw()
		_ = b.expect("runner").conn.Close()
	}
}

func resetKeeps(r *rig) {
	b := r.create(nil)
	file := filepath.Join(b.Paths().Tmp, "file")
	before, _ := b.serve("before")
	before.must(order{Do: "write", Text: file})
	if err := b.Reset(r.context()); err != nil {
		r.Fatal(err)
	}
	after, _ := b.serve("after")
	if got := after.must(order{Do: "read", Text: file}).Text; got != "kept" {
		r.Errorf("after the reset: %q", got)
	}
}

func resetAgain(r *rig) {
	b := r.create(nil)
	for range 10 {
		if err := b.Reset(r.context()); err != nil {
			r.Fatal(err)
		}
		agent, _ := b.serve("agent")
		agent.must(order{Do: "ping"})
	}
}

func closeKills(r *rig) {
	b := r.create(nil)
	daemon := b.daemon()
	parent, p := b.serve("parent")
	if err := b.Close(); err != nil {
		r.Fatal(err)
	}
	daemon.gone()
	parent.gone()
	r.exit(p)
}

func backendCloseKills(r *rig) {
	b := r.create(nil)
	daemon := b.daemon()
	parent, p := b.serve("parent")
	if err := r.backend.Close(); err != nil {
		r.Fatal(err)
	}
	daemon.gone()
	parent.gone()
	r.exit(p)
}

func orphansReaped(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	agent.must(order{Do: "orphans", N: 10})
}
