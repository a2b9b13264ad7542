//go:build linux

package linux

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/firn-run/firn/internal/sandbox"
)

// TestImage: a function with a root directory of its own sees that and not
// the host's libraries, read-only, with the sandbox's parts over it.
func TestImage(t *testing.T) {
	b := open(t, func(c *Config) { c.PoolSize = 1 })
	root := publicDir(t)
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/hosts"), []byte("of the image\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	task := firstRequest(t)
	copyFile(t, filepath.Join(task, "bootstrap"), filepath.Join(root, "program"))
	s := create(t, b, func(spec *sandbox.Spec) { spec.RootDir, spec.TaskDir = root, task })
	for _, path := range []string{"/program", "/var/task/bootstrap"} {
		p, err := s.Start(t.Context(), sandbox.Command{
			Path: path, Args: []string{path}, Dir: "/tmp", Env: []string{"AWS_LAMBDA_RUNTIME_API=" + s.APIAddr()}})
		if err != nil {
			t.Fatal(err)
		}
		if err := accepted(s.Listener()); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
	}
	_, err := s.Start(t.Context(), sandbox.Command{Path: "/bin/sh", Args: []string{"sh"}})
	var start *sandbox.StartError
	if !errors.As(err, &start) || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("the host's shell in an image without one: %v", err)
	}
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 2 {
		t.Errorf("the image was changed: %v, %v", entries, err)
	}
}

// TestPoolIsUsed: Create takes what is ready, and the pool fills again.
func TestPoolIsUsed(t *testing.T) {
	b := open(t, func(c *Config) { c.PoolSize = 2 })
	for range 5 {
		waitForPool(t, b)
		b.pool.mu.Lock()
		ready := b.pool.ready[0]
		b.pool.mu.Unlock()
		s := create(t, b, func(spec *sandbox.Spec) { spec.Network = b.cfg.Network })
		if s.(*box).blank != ready {
			t.Error("Create made a sandbox although one was ready")
		}
		if out, _ := shell(t, s, "echo ok"); out != "ok\n" {
			t.Errorf("says %q", out)
		}
	}
}

// TestDeadInPool: a blank sandbox that died is not handed out.
func TestDeadInPool(t *testing.T) {
	b := open(t, func(c *Config) { c.PoolSize = 2 })
	waitForPool(t, b)
	b.pool.mu.Lock()
	dead := b.pool.ready[0]
	b.pool.mu.Unlock()
	if err := syscall.Kill(dead.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-dead.conn.gone
	s := create(t, b, func(spec *sandbox.Spec) { spec.Network = b.cfg.Network })
	if out, _ := shell(t, s, "echo ok"); out != "ok\n" {
		t.Errorf("says %q", out)
	}
}

// TestSpawnerDies: the next sandbox brings a new one.
func TestSpawnerDies(t *testing.T) {
	b := open(t, nil)
	c, err := b.spawner.start()
	if err != nil {
		t.Fatal(err)
	}
	c.close()
	<-c.gone
	s := create(t, b, nil)
	if out, _ := shell(t, s, "echo ok"); out != "ok\n" {
		t.Errorf("says %q", out)
	}
}

func TestRefusedConfigurations(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no init":       {func(c *Config) { c.InitPath = "/nonexistent" }, "/nonexistent"},
		"network":       {func(c *Config) { c.Network = "lan" }, "internet"},
		"negative pool": {func(c *Config) { c.PoolSize = -1 }, "negative"},
		"user ids":      {func(c *Config) { c.FirstUID = 1<<32 - 1<<17 }, "do not suffice"},
	} {
		cfg := Config{InitPath: os.Getenv(initVariable), Name: "gotest", DegradeNetwork: true}
		c.change(&cfg)
		b, err := New(t.Context(), cfg)
		if err == nil {
			_ = b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCreateErrors(t *testing.T) {
	b := open(t, func(c *Config) { c.Network, c.DegradeNetwork = sandbox.NetworkNone, false })
	spec := sandbox.Spec{ID: "x", TaskDir: publicDir(t), MemoryMB: 128, EphemeralStorageMB: 512, Network: sandbox.NetworkInternet}
	if _, err := b.Create(t.Context(), spec); !errors.Is(err, ErrNetwork) {
		t.Errorf("a network that is switched off: %v", err)
	}
	spec.Network, spec.TaskDir = sandbox.NetworkNone, "/nonexistent"
	if _, err := b.Create(t.Context(), spec); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	spec.TaskDir = publicDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Create(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	if left := belongings(""); len(left) > 1 { // the spawner
		t.Errorf("failed creations left %q", left)
	}
}
