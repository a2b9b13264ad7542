// Package sandboxtest is the meaning of the sandbox contract: the rows of
// Run state each rule once, and every backend passes them.
//
// The programs that run inside a sandbox are the test binary itself, copied
// into the function's directory and told by an environment variable to be the
// agent. So the suite needs nothing but one (static) file and runs in a bare
// virtual machine too. A test package uses it so:
//
//	func TestMain(m *testing.M) { sandboxtest.Main(); os.Exit(m.Run()) }
//
//	func TestConformance(t *testing.T) { sandboxtest.Run(t, sandboxtest.Config{...}) }
//
// What a backend or host cannot do is said in Config, and the rows that need
// it are skipped by name. Nothing is synchronised by sleeping; the only times
// are limits after which a row fails, and the quiet that shows a freeze.
package sandboxtest

import (
	"os"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

// Config describes the backend under test and what it can do on this host.
type Config struct {
	// New makes a backend; the suite closes it. Called once per row.
	New func(t *testing.T) sandbox.Backend

	Isolated      bool // own files, processes, network and user
	Strays        bool // Freeze, Reset and Close reach processes that called setsid
	MemoryFigures bool // Usage tells memory and processor time
	MemoryLimits  bool // going over Spec.MemoryMB ends in OutOfMemory
	PidLimits     bool // at most firn.MaxProcesses processes and threads
	TmpLimit      bool // /tmp ends at Spec.EphemeralStorageMB
	CPULimits     bool // SetCPU holds
	OpenFiles     bool // at most firn.MaxOpenFiles descriptors per process
	// OutboundInternet: Spec.Network may be NetworkInternet.
	OutboundInternet bool

	// RootDir is passed on in every Spec.
	RootDir string
	// Patience is how long a thing that must happen may take; 0 means 30 s.
	Patience time.Duration
}

// row is one rule. The rule is printed when the row fails.
type row struct {
	name  string
	rule  string
	needs func(Config) string // what is missing, or ""
	run   func(*rig)
}

// Run checks every rule of the contract, each as a subtest of its own.
func Run(t *testing.T, cfg Config) {
	if cfg.Patience == 0 {
		cfg.Patience = 30 * time.Second
	}
	task, opt := makeFunction(t)
	var rows []row
	rows = append(rows, startRows()...)
	rows = append(rows, reachRows()...)
	rows = append(rows, freezeRows()...)
	rows = append(rows, resetRows()...)
	rows = append(rows, limitRows()...)
	rows = append(rows, isolationRows()...)
	rows = append(rows, lifetimeRows()...)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if row.needs != nil {
				if missing := row.needs(cfg); missing != "" {
					t.Skip("this backend or host lacks: " + missing)
				}
			}
			t.Cleanup(func() {
				if t.Failed() {
					t.Log("rule: " + row.rule)
				}
			})
			row.run(newRig(t, cfg, task, opt))
		})
	}
}

// need makes a row's needs from one flag.
func need(what string, flag func(Config) bool) func(Config) string {
	return func(c Config) string {
		if flag(c) {
			return ""
		}
		return what
	}
}

func isolated(c Config) bool { return c.Isolated }

// Main turns the test binary into the agent when it was started inside a
// sandbox by this suite, and then does not return. Call it first in TestMain.
func Main() {
	if os.Getenv(agentVariable) == "" {
		return
	}
	os.Exit(agent(os.Args[1:]))
}
