package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// memory fills a node with idle environments and counts what they take beyond
// the functions themselves: the growth of firn, its processes in the
// sandboxes, and what the kernel keeps for them, less what it keeps for as
// many bare bootstraps.
func (l *lab) memory(ctx context.Context) error {
	want := 1000
	if l.quick {
		want = 200
	}
	n, err := l.node(ctx, "--concurrency", strconv.Itoa(want+100))
	if err != nil {
		return err
	}
	// One invocation first: what firn keeps once is not counted a thousand times.
	one, err := n.prepare(ctx, "bench", payload(1<<10))
	if err != nil {
		return err
	}
	if _, err := (load{callers: 1, duration: 200 * time.Millisecond}).run(ctx, one); err != nil {
		return err
	}
	pid := n.cmd.Process.Pid
	perBare, err := l.bareKernel(want / 5)
	if err != nil {
		return err
	}
	before, err := census(pid)
	if err != nil {
		return err
	}
	perSecond, err := populate(ctx, n, want)
	if err != nil {
		return err
	}
	<-time.After(2 * time.Second) // connections are closed, all is frozen
	after, err := census(pid)
	if err != nil {
		return err
	}
	made := after.functions - before.functions
	if made < want*9/10 {
		return fmt.Errorf("only %d of %d environments: the machine is too slow now", made, want)
	}
	kernel := after.kernel - before.kernel - int64(made)*perBare
	firn, inits := after.firn-before.firn, after.inits-before.inits
	scale := 1000 / float64(made) / (1 << 20)
	megabytes := func(name string, v int64, t target) {
		l.book.value(row{Name: name, Unit: "MB", Target: t}, float64(v)*scale)
	}
	megabytes("1,000 idle environments, all but the functions", firn+inits+kernel, target{P50: 1200})
	megabytes("  growth of firn", firn, target{})
	megabytes("  processes of the sandboxes", inits, target{})
	megabytes("  kernel (slab, stacks, page tables)", kernel, target{})
	megabytes("  (the functions themselves)", after.functionBytes-before.functionBytes, target{})
	l.book.add(row{Name: "environments created, per core", Unit: "1/s", Target: target{Rate: 50}},
		round{p50: perSecond / float64(runtime.NumCPU()), rate: perSecond / float64(runtime.NumCPU()), p99: math.NaN(), n: made})
	if made != want {
		l.book.note("memory: %d environments, scaled to 1,000.", made)
	} else if want != 1000 {
		l.book.note("memory: %d environments, scaled to 1,000.", want)
	}
	idle, err := idleCPU(pid)
	if err != nil {
		return err
	}
	l.book.value(row{Name: "processor time of firn over them, idle", Unit: "%"}, idle*100)
	return nil
}

// populate makes so many environments: as many invocations, each of which
// lasts until all have begun. It returns how many began per second.
func populate(ctx context.Context, n *node, want int) (perSecond float64, err error) {
	until := time.Now().Add(20*time.Second + time.Duration(want)*20*time.Millisecond)
	request, err := n.prepare(ctx, "bench", fmt.Appendf(nil, `{"hold":%d}`, until.UnixMilli()))
	if err != nil {
		return 0, err
	}
	request.answer = -1
	at := make([]int64, want)
	errs := make([]error, want)
	begin := time.Now()
	var group sync.WaitGroup
	for i := range want {
		group.Go(func() { at[i], errs[i] = hold(ctx, request) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	last := begin
	for _, ns := range at {
		if t := time.Unix(0, ns); t.After(last) {
			last = t
		}
	}
	return float64(want) / last.Sub(begin).Seconds(), nil
}

// hold makes one such invocation and returns when it began.
func hold(ctx context.Context, request *prepared) (int64, error) {
	c, err := dialCaller(ctx, request.addr)
	if err != nil {
		return 0, err
	}
	defer c.conn.Close()
	var answer bytes.Buffer
	if err := c.invoke(request, &answer); err != nil {
		return 0, err
	}
	var body struct{ At int64 }
	if err := json.Unmarshal(answer.Bytes(), &body); err != nil {
		return 0, fmt.Errorf("answer %q: %w", answer.Bytes(), err)
	}
	return body.At, nil
}

// bareKernel returns what the kernel keeps for one bare bootstrap, in bytes.
func (l *lab) bareKernel(n int) (int64, error) {
	before, err := kernelMemory()
	if err != nil {
		return 0, err
	}
	var guests []*guest
	defer func() {
		for _, g := range guests {
			g.stop()
		}
	}()
	for range n {
		g, err := l.bare.start()
		if err != nil {
			return 0, err
		}
		guests = append(guests, g)
	}
	after, err := kernelMemory()
	return max(0, after-before) / int64(n), err
}

// counts is what the processes below a firn take, in bytes.
type counts struct {
	firn          int64 // resident memory of firn itself
	inits         int64 // proportional shares of all others but the functions
	functions     int
	functionBytes int64 // their private memory
	kernel        int64 // of the whole machine
}

// census reads /proc.
func census(firn int) (c counts, err error) {
	if c.kernel, err = kernelMemory(); err != nil {
		return c, err
	}
	if c.firn, err = field(fmt.Sprintf("/proc/%d/status", firn), "VmRSS:"); err != nil {
		return c, err
	}
	children, err := descendants(firn)
	if err != nil {
		return c, err
	}
	for _, pid := range children {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			continue // it has ended
		}
		rollup := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
		if strings.TrimSpace(string(comm)) == "bootstrap" {
			dirty, err1 := field(rollup, "Private_Dirty:")
			clean, err2 := field(rollup, "Private_Clean:")
			if err1 == nil && err2 == nil {
				c.functions++
				c.functionBytes += dirty + clean
			}
			continue
		}
		if pss, err := field(rollup, "Pss:"); err == nil {
			c.inits += pss
		}
	}
	return c, nil
}

// descendants lists the processes below pid.
func descendants(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		id, err1 := strconv.Atoi(strings.Split(path, "/")[2])
		_, rest, _ := strings.Cut(string(raw[bytes.LastIndexByte(raw, ')'):]), " ")
		fields := strings.Fields(rest)
		if err1 != nil || len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			children[parent] = append(children[parent], id)
		}
	}
	var all []int
	for next := children[pid]; len(next) > 0; next = next[1:] {
		all = append(all, next[0])
		next = append(next, children[next[0]]...)
	}
	return all, nil
}

// kernelMemory is what the kernel of the machine keeps for processes, network
// and control groups.
func kernelMemory() (int64, error) {
	var sum int64
	for _, name := range []string{"SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:"} {
		n, err := field("/proc/meminfo", name)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// field reads a line "name  N kB" of a file of /proc, in bytes.
func field(path, name string) (int64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no line %s", path, name)
}

// idleCPU is the share of a processor that firn takes while nothing is asked
// of it.
func idleCPU(pid int) (float64, error) {
	const span, tick = 3 * time.Second, 10 * time.Millisecond
	read := func() (int64, error) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		user, err1 := strconv.ParseInt(fields[11], 10, 64)
		system, err2 := strconv.ParseInt(fields[12], 10, 64)
		return user + system, errors.Join(err1, err2)
	}
	before, err := read()
	if err != nil {
		return 0, err
	}
	<-time.After(span)
	after, err := read()
	return float64(after-before) * tick.Seconds() / span.Seconds(), err
}
