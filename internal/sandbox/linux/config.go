//go:build linux

package linux

import (
	"errors"
	"fmt"
	"log/slog"

	firn "github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux/egress"
)

// Config configures a Backend. The zero value, with a Logger, is usable.
type Config struct {
	// Logger is told of what the host lacks, and of failures that reach no
	// caller. nil discards.
	Logger *slog.Logger
	// InitPath is the built firn-init. "" means the one inside firn, or else
	// the file firn-init beside the executable.
	InitPath string
	// Name and Exclusive are those of cgroup.Config: they tell the groups of
	// several firns on one machine apart.
	Name      string
	Exclusive bool
	// PoolSize is how many blank sandboxes are kept ready at least; 0 means
	// no pool. PoolMax bounds what the pool grows to when many are created;
	// 0 means four times PoolSize and 8 more.
	PoolSize int
	PoolMax  int
	// Network is the most that a sandbox may have, and what the pool is made
	// for. "" is NetworkInternet.
	Network sandbox.Network
	// DegradeNetwork has a host without TUN devices give sandboxes no network
	// instead of having New fail.
	DegradeNetwork bool
	// Egress is the model for the outbound network of each sandbox; its TUN
	// is filled in. Without Resolvers the host's are taken.
	Egress egress.Config
	// FirstUID begins the user and group ids that sandboxes get, 65,536 each,
	// where firn may choose: the first from here on that no other firn of the
	// host claimed. 0 means 0x10000000, far above what is handed out to people
	// and containers.
	FirstUID uint32
	// MaxSandboxes bounds the sandboxes alive at once, the pool included. 0
	// means 4096.
	MaxSandboxes int
	// Processes bounds the processes and threads in one sandbox; 0 means
	// firn.MaxProcesses.
	Processes int
	// NoCgroups leaves control groups alone, as on a host that offers none.
	NoCgroups bool
}

// idsPerSandbox is how many user ids a sandbox has.
const idsPerSandbox = 1 << 16

const (
	defaultFirstUID     = 0x10000000
	defaultMaxSandboxes = 4096
)

// ErrNetwork is returned when outbound network is asked for that this host or
// configuration cannot give.
var ErrNetwork = errors.New("outbound network is not available")

func (c *Config) complete() error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.PoolSize < 0 {
		return fmt.Errorf("pool size %d is negative", c.PoolSize)
	}
	if c.PoolMax == 0 && c.PoolSize > 0 {
		c.PoolMax = 4*c.PoolSize + 8
	}
	c.PoolMax = max(c.PoolMax, c.PoolSize)
	switch c.Network {
	case "":
		c.Network = sandbox.NetworkInternet
	case sandbox.NetworkInternet, sandbox.NetworkNone:
	default:
		return fmt.Errorf("network %q: choose %s or %s", c.Network, sandbox.NetworkInternet, sandbox.NetworkNone)
	}
	if c.FirstUID == 0 {
		c.FirstUID = defaultFirstUID
	}
	if c.MaxSandboxes == 0 {
		c.MaxSandboxes = defaultMaxSandboxes
	}
	if last := uint64(c.FirstUID) + uint64(c.MaxSandboxes)*idsPerSandbox; last > 1<<32-2 {
		return fmt.Errorf("user ids from %d do not suffice for %d sandboxes", c.FirstUID, c.MaxSandboxes)
	}
	if c.Processes == 0 {
		c.Processes = firn.MaxProcesses
	}
	return nil
}
