package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/require"
)

// TestHelpersDie kills the processes that firn's sandboxes stand on. What ran
// fails in Lambda's words, and the next invocation works.
func TestHelpersDie(t *testing.T) {
	needRoot(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", "none"}})
	n.tolerate = true // it reports what was killed
	n.create("f", function{})
	for _, c := range []struct {
		name   string
		victim func(process, []string) bool
	}{
		{"init", func(p process, argv []string) bool { return argv[0] == "init" && ownsRuntime(t, n, p.pid) }},
		{"spawner", func(p process, argv []string) bool { return p.parent == n.cmd.Process.Pid && argv[0] == "firn-init" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n.succeed("f", order{Do: "info"})
			ended := make(chan told, 1)
			begins := "now kill the " + c.name
			go func() {
				a, err := n.tryInvoke(context.Background(), "f", order{Do: "sleep", Ms: 30_000, Print: begins})
				ended <- told{a, err}
			}()
			<-n.out.await(begins)
			killed := 0
			for _, p := range below(t, n.cmd.Process.Pid) {
				raw, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "cmdline"))
				if argv := strings.Split(string(raw), "\x00"); c.victim(p, argv) {
					if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
						t.Error(err)
					}
					killed++
				}
			}
			if killed != 1 {
				t.Fatalf("%d processes killed", killed)
			}
			// From outside a runtime that was killed by whomever looks the same.
			if got := <-ended; got.err != nil || !matchesAny(got.payload, "Sandbox.Failure|signal: killed") {
				t.Errorf("the invocation that was under way: %v %s", got.err, got.payload)
			}
			// What dies in these very moments may still be met once.
			eventually(t, "the next invocation works", func() (bool, any) {
				a, err := n.tryInvoke(t.Context(), "f", order{Do: "info"})
				return err == nil && a.failure == "", fmt.Sprint(err, a.payload)
			})
		})
	}
	n.stop()
}

// ownsRuntime says whether a process is the parent of a runtime.
func ownsRuntime(t *testing.T, n *node, pid int) bool {
	for _, p := range below(t, n.cmd.Process.Pid) {
		if p.parent == pid && p.name == "bootstrap" {
			return true
		}
	}
	return false
}

// TestFewDescriptors gives firn so few file descriptors that not all
// environments can be made. Some invocations fail then; firn lives on, and
// works again when there are fewer.
func TestFewDescriptors(t *testing.T) {
	needRoot(t)
	t.Parallel()
	_, err := exec.LookPath("prlimit")
	require.Feature(t, "prlimit", err == nil, fmt.Sprint(err))
	n := start(t, options{args: []string{"--network", "none", "--idle-timeout", "2s", "--pool", "-1"}})
	n.tolerate = true
	n.create("f", function{})
	limit := exec.Command("prlimit", "--pid", strconv.Itoa(n.cmd.Process.Pid), "--nofile=250:250")
	if raw, err := limit.CombinedOutput(); err != nil {
		t.Fatalf("prlimit: %v: %s", err, raw)
	}
	var work sync.WaitGroup
	var good, bad atomic.Int64
	for range 60 {
		work.Go(func() {
			if a, err := n.tryInvoke(t.Context(), "f", order{Do: "sleep", Ms: 3000}); err != nil || a.failure != "" {
				bad.Add(1)
			} else {
				good.Add(1)
			}
		})
	}
	work.Wait()
	t.Logf("with 250 descriptors %d invocations succeed and %d fail", good.Load(), bad.Load())
	if good.Load() == 0 || bad.Load() == 0 {
		t.Errorf("%d succeed and %d fail: the test does not test", good.Load(), bad.Load())
	}
	eventually(t, "firn works again", func() (bool, any) {
		a, err := n.tryInvoke(t.Context(), "f", order{Do: "info"})
		return err == nil && a.failure == "", fmt.Sprint(err, a.payload)
	})
	n.stop()
}

// TestNeverReads has clients that call for large answers and read none.
func TestNeverReads(t *testing.T) {
	t.Parallel()
	n := start(t, options{sandbox: "process", args: []string{"--auth", "none"}})
	n.create("f", function{memory: 1024})
	body := `{"do":"large","n":6000000}`
	for range 40 {
		conn, err := net.Dial("tcp", n.address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.(*net.TCPConn).SetReadBuffer(4096)
		fmt.Fprintf(conn, "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		r := bufio.NewReaderSize(conn, 16)
		line, err := r.ReadString('\n')
		if err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%v %s", err, line)
		}
	}
	n.succeed("f", order{})
	// The end waits a moment for such clients, not for all of the drain time.
	begun := time.Now()
	n.signal(syscall.SIGINT)
	if err := n.wait(); err != nil {
		t.Errorf("firn ended with %v", err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("firn took %v to end", took)
	}
}

// TestProcessOrphans kills firn with the sandbox that has no namespaces:
// programs end with it, what they had started at the next start.
func TestProcessOrphans(t *testing.T) {
	t.Parallel()
	if !inside(t) {
		return
	}
	n := start(t, options{sandbox: "process"})
	n.create("f", function{layers: []string{n.layer("extension", "watcher")}})
	n.succeed("f", order{Do: "daemon", Arg: "spin"})
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	n.wait()
	alive := func() (programs, others int) {
		for pid, p := range processes(t) {
			switch {
			case pid == os.Getpid() || p.state == "Z":
			case p.name == "bootstrap" || p.name == "watcher":
				programs++
			default:
				others++
			}
		}
		return programs, others
	}
	eventually(t, "the programs end", func() (bool, any) {
		programs, _ := alive()
		return programs == 0, programs
	})
	if _, others := alive(); others != 1 {
		t.Errorf("%d processes are left, the test wants its daemon", others)
	}
	again := start(t, options{sandbox: "process", data: n.data})
	if _, others := alive(); others != 1 {
		t.Errorf("%d processes beside firn itself are left after the next start", others-1)
	}
	again.succeed("f", order{})
	again.stop()
}
