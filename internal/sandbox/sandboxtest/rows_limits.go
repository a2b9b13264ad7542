package sandboxtest

import (
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sandbox"
)

func limitRows() []row {
	figures := need("memory figures", func(c Config) bool { return c.MemoryFigures })
	memory := need("memory limits", func(c Config) bool { return c.MemoryLimits })
	return []row{
		{"usage and peak", "Usage follows the memory of the processes; Peak is the highest since ResetPeak", figures, usage},
		{"processor time grows", "CPUTime counts what ended processes have used", figures, cpuTime},
		{"out of memory", "going over MemoryMB gives Exit.OutOfMemory and an Event; the sandbox works after Reset", memory, outOfMemory},
		{"out of memory is private", "a sandbox out of memory harms no other", memory, outOfMemoryPrivate},
		{"out of memory by a child", "the memory of all processes counts together", memory, outOfMemoryTogether},
		{"pids limit", "at most 1024 processes and threads; a neighbour can start more",
			need("a limit of processes", func(c Config) bool { return c.PidLimits }), pidLimit},
		{"/tmp limit", "/tmp ends at EphemeralStorageMB with ENOSPC and is not charged as memory beyond that",
			need("a limit of /tmp", func(c Config) bool { return c.TmpLimit }), tmpLimit},
		{"processor share", "SetCPU bounds the processor time; 0 lifts the bound",
			need("processor limits", func(c Config) bool { return c.CPULimits }), cpuShare},
	}
}

func (b *box) usage() sandbox.Usage {
	b.rig.Helper()
	u, err := b.Usage()
	if err != nil {
		b.rig.Fatalf("usage: %v", err)
	}
	return u
}

// cpuTime is the processor time that the sandbox used.
func (b *box) cpuTime() time.Duration {
	b.rig.Helper()
	used, err := b.CPUTime()
	if err != nil {
		b.rig.Fatalf("processor time: %v", err)
	}
	return used
}

func usage(r *rig) {
	b := r.create(func(s *sandbox.Spec) { s.MemoryMB = 512 })
	agent, _ := b.serve("agent")
	agent.must(order{Do: "ping"})
	base := b.usage()
	const size, most = 64 * firn.MiB, 56 * firn.MiB
	agent.must(order{Do: "alloc", N: 64})
	held := b.usage()
	if held.Current < base.Current+most || held.Peak < held.Current {
		r.Errorf("with %d more: %+v, before %+v", size, held, base)
	}
	agent.must(order{Do: "free"})
	freed := b.usage()
	if freed.Current > base.Current+size/2 || freed.Peak < base.Current+most {
		r.Errorf("after giving it back: %+v, with it %+v", freed, held)
	}
	if err := b.ResetPeak(); err != nil {
		r.Fatal(err)
	}
	if reset := b.usage(); reset.Peak > base.Current+size/2 || reset.Peak <= 0 {
		r.Errorf("after ResetPeak: %+v", reset)
	}
}

func cpuTime(r *rig) {
	b := r.create(nil)
	agent, p := b.serve("agent")
	used := time.Duration(agent.must(order{Do: "burn", N: 300}).N) * time.Millisecond
	_ = agent.conn.Close()
	r.exit(p)
	if told := b.cpuTime(); told < used-20*time.Millisecond {
		r.Errorf("CPUTime %v after a process used %v", told, used)
	}
}

func (b *box) expectOutOfMemory() {
	b.rig.Helper()
	select {
	case e, ok := <-b.Events():
		if !ok || e.Kind != sandbox.OutOfMemory || e.At.IsZero() {
			b.rig.Errorf("event %+v, %t", e, ok)
		}
	case <-time.After(b.rig.cfg.Patience):
		b.rig.Error("no OutOfMemory event")
	}
}

func outOfMemory(r *rig) {
	b := r.create(nil)
	for range 2 {
		exit := r.exit(b.start(b.command("hog", "512")))
		if exit.Signal != syscall.SIGKILL || !exit.OutOfMemory {
			r.Errorf("%+v, want SIGKILL by OutOfMemory", exit)
		}
		b.expectOutOfMemory()
		if err := b.Reset(r.context()); err != nil {
			r.Fatal(err)
		}
		agent, p := b.serve("after")
		agent.must(order{Do: "alloc", N: 16})
		_ = agent.conn.Close()
		if exit := r.exit(p); exit.Code != 0 || exit.OutOfMemory {
			r.Errorf("after the reset: %+v", exit)
		}
	}
	// A process that is killed for another reason has not run out of memory.
	_, p := b.serve("innocent")
	if err := p.Signal(syscall.SIGKILL); err != nil {
		r.Fatal(err)
	}
	if exit := r.exit(p); exit.Signal != syscall.SIGKILL || exit.OutOfMemory {
		r.Errorf("killed by Signal: %+v", exit)
	}
}

func outOfMemoryPrivate(r *rig) {
	hungry, calm := r.create(nil), r.create(nil)
	agent, _ := calm.serve("calm")
	agent.must(order{Do: "alloc", N: 32})
	if exit := r.exit(hungry.start(hungry.command("hog", "512"))); !exit.OutOfMemory {
		r.Errorf("%+v", exit)
	}
	agent.must(order{Do: "ping"})
	select {
	case e := <-calm.Events():
		r.Errorf("the neighbour got %+v", e)
	default:
	}
}

func outOfMemoryTogether(r *rig) {
	b := r.create(nil)
	for _, name := range []string{"a", "b", "c", "d"} {
		p := b.start(b.command("serve", b.APIAddr(), name))
		select {
		case agent := <-b.queue(name):
			r.Cleanup(func() { _ = agent.conn.Close() }) // not before: it lives, and holds its memory, as long as that
			_, _ = agent.try(order{Do: "alloc", N: 48})
		case <-p.Done(): // killed for what those before it have allocated
		}
	}
	b.expectOutOfMemory()
	if err := b.Reset(r.context()); err != nil {
		r.Fatal(err)
	}
	agent, _ := b.serve("after")
	agent.must(order{Do: "ping"})
}

func pidLimit(r *rig) {
	b, other := r.create(func(s *sandbox.Spec) { s.MemoryMB = 512 }), r.create(nil)
	_, stderr, exit := b.output(b.command("threads", strconv.Itoa(3*firn.MaxProcesses)))
	// A static agent names the number, one with C's threads the text.
	number, text := "errno="+strconv.Itoa(int(syscall.EAGAIN)), strings.ToLower(syscall.EAGAIN.Error())
	if exit.Code == 0 || !strings.Contains(stderr, number) && !strings.Contains(strings.ToLower(stderr), text) {
		r.Errorf("%+v, %.200q; want a failure with EAGAIN", exit, stderr)
	}
	agent, _ := other.serve("other")
	agent.must(order{Do: "ping"})
	if exit := r.exit(b.start(b.command("threads", strconv.Itoa(firn.MaxProcesses/2)))); exit.Code != 0 {
		r.Errorf("half the limit: %+v", exit)
	}
}

func tmpLimit(r *rig) {
	b := r.create(func(s *sandbox.Spec) { s.MemoryMB = 1024 })
	agent, _ := b.serve("agent")
	file := filepath.Join(b.Paths().Tmp, "big")
	res := agent.ask(order{Do: "write", Text: file, N: 700})
	if syscall.Errno(res.Errno) != syscall.ENOSPC || res.N < 440 || res.N > 512 {
		r.Errorf("wrote %d MiB, then %q; want about 512 and ENOSPC", res.N, res.Err)
	}
	agent.must(order{Do: "remove", Text: file})
	if res := agent.ask(order{Do: "write", Text: file, N: 100}); res.Err != "" {
		r.Errorf("after making room: %s", res.Err)
	}
}

func cpuShare(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("agent")
	if err := b.SetCPU(0.1); err != nil {
		r.Fatal(err)
	}
	agent.must(order{Do: "burn", N: 200}) // uses up what was left of a period
	limited := agent.must(order{Do: "burn", N: 1500}).N
	if limited > 400 {
		r.Errorf("%d ms of processor time in 1500 ms at a tenth", limited)
	}
	if err := b.SetCPU(0); err != nil {
		r.Fatal(err)
	}
	if full := agent.must(order{Do: "burn", N: 1500}).N; full < 2*limited {
		r.Errorf("%d ms of processor time in 1500 ms at full speed, %d at a tenth", full, limited)
	}
}
