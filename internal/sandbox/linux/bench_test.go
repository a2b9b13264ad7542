//go:build linux

package linux

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

// firstRequest copies the smallest function into a directory of its own.
func firstRequest(t testing.TB) (dir string) {
	t.Helper()
	dir = publicDir(t)
	copyFile(t, filepath.Join(filepath.Dir(os.Getenv(initVariable)), "first"), filepath.Join(dir, "bootstrap"))
	return dir
}

// accepted waits for the first bytes of a connection.
func accepted(l net.Listener) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Read(make([]byte, 256))
	return err
}

// coldStart measures from Create to the first request.
func coldStart(b *testing.B, backend *Backend, dir string, network sandbox.Network) time.Duration {
	begin := time.Now()
	s, err := backend.Create(b.Context(), sandbox.Spec{ID: "cold", TaskDir: dir, MemoryMB: 128, EphemeralStorageMB: 512, Network: network})
	if err != nil {
		b.Fatal(err)
	}
	_, err = s.Start(b.Context(), sandbox.Command{
		Path: "/var/task/bootstrap", Args: []string{"bootstrap"}, Dir: "/var/task",
		Env: []string{"AWS_LAMBDA_RUNTIME_API=" + s.APIAddr()},
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := accepted(s.Listener()); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return took
}

// report gives the middle and the 99th percentile in milliseconds.
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(q float64) float64 { return took[int(q*float64(len(took)-1))].Seconds() * 1000 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(took[0].Seconds()*1000, "min-ms")
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
}

func BenchmarkColdStart(b *testing.B) {
	dir := firstRequest(b)
	b.Run("floor", func(b *testing.B) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		var took []time.Duration
		for b.Loop() {
			begin := time.Now()
			cmd := exec.Command(filepath.Join(dir, "bootstrap"))
			cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String()}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			if err := accepted(l); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(begin))
			_ = cmd.Wait()
		}
		report(b, took)
	})
	for _, network := range []sandbox.Network{sandbox.NetworkNone, sandbox.NetworkInternet} {
		b.Run("pool/"+string(network), func(b *testing.B) {
			backend := open(b, func(c *Config) { c.PoolSize, c.Network = 4, network })
			if backend.cfg.Network != network {
				b.Skip("this host gives no network device")
			}
			var took []time.Duration
			for b.Loop() {
				waitForPool(b, backend)
				took = append(took, coldStart(b, backend, dir, network))
			}
			report(b, took)
		})
		b.Run("direct/"+string(network), func(b *testing.B) {
			backend := open(b, func(c *Config) { c.Network = network })
			if backend.cfg.Network != network {
				b.Skip("this host gives no network device")
			}
			var took []time.Duration
			for b.Loop() {
				took = append(took, coldStart(b, backend, dir, network))
			}
			report(b, took)
		})
	}
}

// waitForPool returns when the pool has its size and nothing is being made.
func waitForPool(t testing.TB, b *Backend) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		b.pool.mu.Lock()
		n := len(b.pool.ready)
		b.pool.mu.Unlock()
		if n >= b.cfg.PoolSize {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("the pool does not fill")
		}
	}
}
