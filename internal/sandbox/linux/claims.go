//go:build linux

package linux

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// sandboxesPerClaim is how many sandboxes' user ids are claimed at once.
	sandboxesPerClaim = 256
	// claimDir holds a file for each claimed block, locked while its firn lives.
	claimDir = "/run/firn"
)

// claims are the blocks of user ids of this Backend. Two firns on one host, or
// two Backends in one process, never give a function the same ids: a function
// could else signal another's processes where their namespaces met, and pass
// for the owner of its files. A claim is a file lock, which ends with the
// process however that ends. Firns that do not see the same /run, as in
// containers, do not see each other's claims.
type claims struct {
	log    *slog.Logger
	dir    string // "" claims without locks
	origin uint32 // the first id of the first block
	blocks []int  // numbers of the claimed blocks
	files  []*os.File
}

// another claims the next block that nobody has.
func (c *claims) another() error {
	number := 0
	if n := len(c.blocks); n > 0 {
		number = c.blocks[n-1] + 1
	}
	const size = sandboxesPerClaim * idsPerSandbox
	for ; uint64(c.origin)+uint64(number+1)*size <= 1<<32-2; number++ {
		file, err := c.lock(number)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			c.log.Warn("user ids are not claimed: another firn on this host may give functions the same ones", "error", err)
			c.dir = ""
		}
		if file != nil {
			c.files = append(c.files, file)
		}
		c.blocks = append(c.blocks, number)
		return nil
	}
	return fmt.Errorf("the user ids from %d on are all in use by the firns of this host: end one of them", c.origin)
}

func (c *claims) lock(number int) (*os.File, error) {
	if c.dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("ids-%d", c.id(number))
	file, err := os.OpenFile(filepath.Join(c.dir, name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// first is the first id of the i-th block that was claimed.
func (c *claims) first(i int) uint32 { return c.id(c.blocks[i]) }

func (c *claims) id(number int) uint32 {
	return c.origin + uint32(number)*sandboxesPerClaim*idsPerSandbox
}

func (c *claims) close() error {
	var errs []error
	for _, file := range c.files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}
