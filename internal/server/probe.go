package server

import (
	"fmt"
	"syscall"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sandbox"
)

// HostReport is what `firn doctor` found.
type HostReport struct {
	Features []sandbox.Feature `json:"features"`
	Sandbox  string            `json:"sandbox"` // that firn up would use
	Why      string            `json:"why"`
}

// filesPerEnvironment is about how many descriptors of firn an environment
// holds: its listener and connections, pipes, control groups, control socket.
const filesPerEnvironment = 20

// openFiles says whether firn may open as many files as the account's
// concurrency needs. The Go runtime has raised the soft limit to the hard one.
func openFiles() sandbox.Feature {
	f := sandbox.Feature{Name: "open files"}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		f.Detail = err.Error()
		return f
	}
	room := uint64(limit.Cur) / filesPerEnvironment
	f.OK = room >= firn.DefaultAccountConcurrency
	f.Detail = fmt.Sprintf("%d, enough for about %d environments", uint64(limit.Cur), room)
	if !f.OK {
		f.Fix = fmt.Sprintf("raise the limit (ulimit -n %d, or LimitNOFILE= of a service) or lower --concurrency", filesPerEnvironment*firn.DefaultAccountConcurrency)
	}
	return f
}
