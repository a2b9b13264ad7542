// Command bench measures firn and prints what came of it beside what this very
// machine can do at best, and beside the targets.
//
// Every figure stands next to a floor that was measured in the same run, in
// turn with it, since machines differ and have other work: for a cold start,
// fork and exec of the same static bootstrap until its first request reaches a
// bare socket; for a warm invocation, two bare round trips over loopback with
// that same bootstrap. A run has several rounds; a figure is the median of the
// rounds' medians (or of their 99th percentiles), "best" the least of the
// medians, which is what the machine gives when nobody else works on it.
//
// Warm figures, and the totals of cold ones, are those of `firn up --quiet` in
// a process of its own, over HTTP, with isolation, network and signatures on.
// The client is as lean as can be (one keep-alive connection per caller, each
// request signed once), because it runs on the same processors. Functions have
// 1,769 MB, one processor's worth, where a row does not say otherwise: smaller
// ones are slowed down by their processor quota, as on AWS, and would measure
// the kernel's clock.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	firn   string
	quick  bool
	json   bool
	rounds int
	skip   map[string]bool // groups left out
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags() options {
	o := options{skip: map[string]bool{}}
	flag.StringVar(&o.firn, "firn", "bin/firn", "the `binary` to measure")
	flag.BoolVar(&o.quick, "quick", false, "a short run: fewer rounds, fewer environments")
	flag.BoolVar(&o.json, "json", false, "print JSON in place of the table")
	flag.IntVar(&o.rounds, "rounds", 0, "rounds of each measurement (default 5, quick 3)")
	for _, group := range []string{"cold", "warm", "stream", "telemetry", "managed", "parallel", "freeze", "memory"} {
		flag.BoolFunc("no-"+group, "leave out the group "+group, func(string) error { o.skip[group] = true; return nil })
	}
	flag.Parse()
	if o.rounds <= 0 {
		o.rounds = 5
		if o.quick {
			o.rounds = 3
		}
	}
	return o
}

func run(ctx context.Context) (err error) {
	o := parseFlags()
	dir, err := os.MkdirTemp("", "firn-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program, archive, err := buildRuntime(ctx, dir)
	if err != nil {
		return err
	}
	lab := &lab{options: o, dir: dir, program: program, archive: archive, book: newBook()}
	defer func() { err = errors.Join(err, lab.close()) }()
	if lab.bare, err = newBare(program); err != nil {
		return err
	}
	begin := time.Now()
	for _, group := range []struct {
		name    string
		measure func(context.Context) error
	}{{"cold", lab.cold}, {"warm", lab.warm}, {"stream", lab.stream}, {"telemetry", lab.telemetry}, {"managed", lab.managed}, {"parallel", lab.parallel}, {"freeze", lab.freeze}, {"memory", lab.memory}} {
		if o.skip[group.name] {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s (load average %s)\n", group.name, loadAverage())
		if err := group.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", group.name, err)
		}
		if err := lab.stopNodes(); err != nil {
			return err
		}
	}
	report := lab.book.report()
	report.Took = time.Since(begin).Round(time.Second).String()
	if o.json {
		return report.writeJSON(os.Stdout)
	}
	return report.write(os.Stdout)
}

// lab holds what the measurements share.
type lab struct {
	options
	dir     string
	program string // the bootstrap
	archive []byte // the bootstrap as a function's code
	book    *book
	bare    *bare
	nodes   []*node
}

// node starts a firn with the function "bench" of 1,769 MB.
func (l *lab) node(ctx context.Context, flags ...string) (*node, error) {
	data := filepath.Join(l.dir, fmt.Sprintf("data%d", len(l.nodes)))
	n, err := startNode(ctx, l.firn, data, flags...)
	if err != nil {
		return nil, err
	}
	l.nodes = append(l.nodes, n)
	return n, n.create(ctx, "bench", 1769, l.archive)
}

// stopNodes ends the nodes of a group.
func (l *lab) stopNodes() error {
	var errs []error
	for i, n := range l.nodes {
		if n != nil {
			errs = append(errs, n.stop())
			l.nodes[i] = nil
		}
	}
	return errors.Join(errs...)
}

func (l *lab) close() error {
	err := l.stopNodes()
	if l.bare != nil {
		err = errors.Join(err, l.bare.close())
	}
	return err
}

// loadAverage is the machine's, as far as it tells.
func loadAverage() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	load, _, _ := strings.Cut(string(raw), " ")
	return load
}
