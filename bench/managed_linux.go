package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/sandbox"
)

// package200 is the size of the Python function's dependencies.
const (
	packageFiles     = 2000
	packageFileBytes = 100 << 10
)

// managed measures cold starts of managed runtimes. What firn itself takes is
// shown by a static bootstrap in the same package, with the same runtime's
// directory in place: its own init is nothing. The rest is the runtime's and
// the function's. The packages were used before, so that they are unpacked.
func (l *lab) managed(ctx context.Context) error {
	cache := os.Getenv("FIRN_RUNTIMES")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		cache = filepath.Join(base, "firn", "runtimes")
	}
	if _, err := os.Stat(cache); err != nil {
		l.book.note("managed runtimes were not measured: .ci/install-runtimes puts some into %s", cache)
		return nil
	}
	store, err := runtimes.Open(cache, "")
	if err != nil {
		return err
	}
	defer store.Close()
	p, err := newPlatform(ctx, l)
	if err != nil {
		return err
	}
	defer p.close()
	for _, f := range []struct {
		runtime, name, handler string
		write                  func(ctx context.Context, dir string) error
	}{
		{"python3.11", "python3.11, 200 MB of dependencies", "app.handler", writePython},
		{"java17", "java17", "example.App::handleRequest", writeJava},
	} {
		dir, _, err := store.Runtime(ctx, f.runtime)
		if err != nil {
			l.book.note("%s was not measured: %v", f.runtime, err)
			continue
		}
		task := filepath.Join(l.dir, f.runtime)
		if err := f.write(ctx, task); err != nil {
			l.book.note("%s was not measured: %v", f.runtime, err)
			continue
		}
		program, err := os.ReadFile(l.program)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(task, "bootstrap"), program, 0o755); err != nil {
			return err
		}
		samples := 10
		if l.quick {
			samples = 4
		}
		for range l.rounds {
			if err := p.managedRound(ctx, l.book, managedFunction{f.runtime, f.name, f.handler, dir, task}, samples); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	return nil
}

// managedFunction is a function to start.
type managedFunction struct{ runtime, name, handler, runtimeDir, task string }

func (p *platform) managedRound(ctx context.Context, book *book, f managedFunction, samples int) error {
	var own, total []time.Duration
	for range samples {
		for _, m := range []struct {
			runtime string
			took    *[]time.Duration
		}{{"provided.al2023", &own}, {f.runtime, &total}} {
			<-time.After(settle / 3)
			took, err := p.startManaged(ctx, f, m.runtime)
			if err != nil {
				return err
			}
			*m.took = append(*m.took, took)
		}
	}
	book.durations(row{Name: f.name + ": cold, firn's own part", Unit: "ms", Target: target{P50: 20}}, own, 0)
	book.durations(row{Name: f.name + ": cold, with the init of runtime and function", Unit: "ms"}, total, 0)
	return nil
}

// startManaged starts an environment and takes the time until it is ready.
func (p *platform) startManaged(ctx context.Context, f managedFunction, runtime string) (time.Duration, error) {
	ready := make(chan bool, 1)
	p.started++
	begin := time.Now()
	env, err := environment.Start(ctx, environment.Config{
		ID: fmt.Sprintf("bench%d", p.started), Backend: p.pooled, TaskDir: f.task, RuntimeDir: f.runtimeDir, Network: sandbox.NetworkInternet,
		Version: &firn.FunctionVersion{
			Name: "bench", Version: firn.Latest, Account: "123456789012", Handler: f.handler, Runtime: runtime, Region: "us-east-1",
			ARN:      "arn:aws:lambda:us-east-1:123456789012:function:bench",
			MemoryMB: 1769, EphemeralStorageMB: 512, Timeout: 30 * time.Second,
		},
		Buffers: p.buffers, FreezeGrace: -1,
		OnReady: func(_ *environment.Environment, failed bool) { ready <- failed },
		OnEnded: func(*environment.Environment) {},
	})
	if err != nil {
		return 0, err
	}
	defer func() {
		env.Abort()
		<-env.Done()
	}()
	select {
	case failed := <-ready:
		if failed {
			return 0, errors.New("init failed")
		}
	case <-time.After(30 * time.Second):
		return 0, errors.New("init takes too long")
	}
	return time.Since(begin), nil
}

// writePython makes a function with 200 MB beside it.
func writePython(_ context.Context, dir string) error {
	files := map[string][]byte{
		"app.py":              []byte("import package\n\ndef handler(event, context):\n    return event\n"),
		"package/__init__.py": []byte("from . import part\n"),
		"package/part.py":     []byte("answer = 42\n"),
	}
	if err := writeFiles(dir, files); err != nil {
		return err
	}
	content := bytes.Repeat([]byte("dependency "), packageFileBytes/11)
	for i := range packageFiles {
		if err := writeFiles(dir, map[string][]byte{fmt.Sprintf("package/data/%03d/%d.bin", i/100, i): content}); err != nil {
			return err
		}
	}
	return nil
}

// writeJava compiles a function.
func writeJava(ctx context.Context, dir string) error {
	source := "package example;\npublic class App { public java.util.Map<String, Object> handleRequest(java.util.Map<String, Object> event) { return event; } }\n"
	if err := writeFiles(dir, map[string][]byte{"example/App.java": []byte(source)}); err != nil {
		return err
	}
	compile := exec.CommandContext(ctx, "javac", "--release", "17", "-d", dir, filepath.Join(dir, "example/App.java"))
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("javac: %w\n%s", err, out)
	}
	return nil
}

func writeFiles(dir string, files map[string][]byte) error {
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
