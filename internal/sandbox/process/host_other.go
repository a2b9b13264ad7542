//go:build unix && !linux

package process

import (
	"net"
	"os"
	"syscall"
	"time"
)

// tag numbers sandboxes; nothing can carry it here.
type tag uint64

// member never occurs here: the kernel has no table that a program may read
// without its private libraries.
type member struct {
	pid, group int
	zombie     bool
	inherited  bool
	resident   int64
	cpu        time.Duration
}

// host is what the kernel does for the backend: little, beyond Linux.
type host struct{}

func newHost(string) (*host, error) { return &host{}, nil }

// tracks reports that processes are reached through their groups only.
func (h *host) tracks() bool { return false }

func (h *host) childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// listen opens the Runtime API on a port of its own: only 127.0.0.1 is
// configured on the loopback interface.
func (h *host) listen(lc *net.ListenConfig, seq uint32) (net.Listener, tag, error) {
	l, err := listen(lc, "127.0.0.1:0")
	return l, tag(seq), err
}

func (h *host) launch(job spawnJob) (*os.Process, error) {
	p, err := os.StartProcess(job.path, job.args, job.attr)
	if err == nil {
		job.ready(p.Pid)
	}
	return p, err
}

func (h *host) adopt(int, tag)                                    {}
func (h *host) members(tag, func(int) bool, bool) ([]member, int) { return nil, 0 }
func (h *host) reap(int) (time.Duration, bool)                    { return 0, false }
func (h *host) proportional([]member) int64                       { return 0 }
func (h *host) highest(member) int64                              { return 0 }
func (h *host) resetHighest(int)                                  {}
func (h *host) killLeftovers() int                                { return 0 }
