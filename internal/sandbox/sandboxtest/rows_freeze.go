package sandboxtest

import (
	"path/filepath"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

func strays(c Config) bool { return c.Strays }

func freezeRows() []row {
	return []row{
		{"freeze stops and thaw resumes", "nothing inside runs between Freeze and Thaw, everything goes on after", nil, freezeStops},
		{"freeze uses no processor time", "a frozen sandbox uses no processor time",
			need("memory and processor figures", func(c Config) bool { return c.MemoryFigures }), freezeNoTime},
		{"freeze reaches daemons", "a process that left its group and session is frozen too",
			need("a hold on daemons", strays), freezeDaemons},
		{"freeze and thaw are idempotent", "Freeze twice and Thaw twice do what once does; Thaw of a running sandbox does nothing", nil, freezeIdempotent},
		{"200 cycles", "freezing and thawing harms no program", nil, freezeCycles},
		{"freeze holds signals", "a signal to a frozen process arrives after Thaw at the latest", nil, freezeSignal},
		{"freeze is per sandbox", "a frozen sandbox does not stop another", nil, freezeOther},
		{"frozen sandbox is closed", "Close ends frozen processes", nil, freezeClose},
		{"frozen sandbox is reset", "Reset ends frozen processes, and processes started after a Thaw run", nil, freezeReset},
	}
}

func (b *box) freeze() {
	b.rig.Helper()
	if err := b.Freeze(); err != nil {
		b.rig.Fatalf("freeze: %v", err)
	}
}

func (b *box) thaw() {
	b.rig.Helper()
	if err := b.Thaw(); err != nil {
		b.rig.Fatalf("thaw: %v", err)
	}
}

func freezeStops(r *rig) {
	b := r.create(nil)
	parent, _ := b.serve("parent")
	parent.must(order{Do: "child", Text: "child"})
	beating := []*peer{b.expect("child")}
	b.start(b.command("beat", b.APIAddr(), "second"))
	beating = append(beating, b.expect("second"))
	for range 3 {
		for _, p := range beating {
			p.beat()
		}
		b.freeze()
		for _, p := range beating {
			p.quiet()
		}
		b.thaw()
	}
	for _, p := range beating {
		p.beat()
	}
	parent.must(order{Do: "ping"})
}

func freezeNoTime(r *rig) {
	b := r.create(nil)
	b.start(b.command("spin", b.APIAddr(), "spinner"))
	spinner := b.expect("spinner")
	spinner.beat()
	running := b.cpuTime()
	// The spinner must show in the figures, else the rest proves nothing.
	for end := time.Now().Add(r.cfg.Patience); ; {
		now := b.cpuTime()
		if now > running+100*time.Millisecond {
			break
		}
		if time.Now().After(end) {
			r.Fatalf("a spinning process used only %v", now-running)
		}
		spinner.beat()
	}
	b.freeze()
	spinner.quiet()
	before := b.cpuTime()
	spinner.quiet()
	if used := b.cpuTime() - before; used > 20*time.Millisecond {
		r.Errorf("used %v while frozen", used)
	}
}

func freezeDaemons(r *rig) {
	b := r.create(nil)
	parent, _ := b.serve("parent")
	parent.must(order{Do: "daemon", Text: "daemon"})
	daemon := b.expect("daemon")
	daemon.beat()
	for range 3 {
		b.freeze()
		daemon.quiet()
		b.thaw()
		daemon.beat()
	}
}

func freezeIdempotent(r *rig) {
	b := r.create(nil)
	b.thaw()
	b.start(b.command("beat", b.APIAddr(), "beater"))
	beater := b.expect("beater")
	b.thaw()
	beater.beat()
	b.freeze()
	b.freeze()
	beater.quiet()
	b.thaw()
	beater.beat()
	b.thaw()
	beater.beat()
	empty := r.create(nil)
	empty.freeze()
	empty.thaw()
}

func freezeCycles(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	b.start(b.command("beat", b.APIAddr(), "beater"))
	beater := b.expect("beater")
	for range 200 {
		b.freeze()
		b.thaw()
		agent.must(order{Do: "ping"})
	}
	beater.beat()
	if exit := r.exit(b.start(b.command("exit", "9"))); exit.Code != 9 {
		r.Errorf("afterwards: %+v", exit)
	}
}

func freezeSignal(r *rig) {
	b := r.create(nil)
	p := b.start(b.command("trap", b.APIAddr()))
	b.expect("trap")
	b.freeze()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		r.Fatal(err)
	}
	b.thaw()
	if exit := r.exit(p); exit.Code != trapCode {
		r.Errorf("%+v", exit)
	}
}

func freezeOther(r *rig) {
	frozen, running := r.create(nil), r.create(nil)
	frozen.start(frozen.command("beat", frozen.APIAddr(), "beater"))
	stopped := frozen.expect("beater")
	running.start(running.command("beat", running.APIAddr(), "beater"))
	beater := running.expect("beater")
	frozen.freeze()
	stopped.quiet()
	for range 200 {
		beater.beat()
	}
}

func (r *rig) frozenBeater() (*box, *peer, sandbox.Process) {
	b := r.create(nil)
	p := b.start(b.command("beat", b.APIAddr(), "beater"))
	beater := b.expect("beater")
	b.freeze()
	beater.quiet()
	return b, beater, p
}

func freezeClose(r *rig) {
	b, beater, p := r.frozenBeater()
	if err := b.Close(); err != nil {
		r.Fatal(err)
	}
	beater.gone()
	r.exit(p)
}

func freezeReset(r *rig) {
	b, beater, p := r.frozenBeater()
	if err := b.Reset(r.context()); err != nil {
		r.Fatal(err)
	}
	beater.gone()
	r.exit(p)
	b.thaw()
	agent, _ := b.serve("after")
	agent.must(order{Do: "write", Text: filepath.Join(b.Paths().Tmp, "x")})
}
