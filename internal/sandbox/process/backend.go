package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

const (
	// sampleEvery is the interval at which memory is read and orphans are
	// collected while a function runs. A hog that touches 1 GiB a second is
	// seen within 50 MiB.
	sampleEvery = 50 * time.Millisecond
	// dirPrefix begins the name of every sandbox's directory.
	dirPrefix = "sb-"
	// listenTries bounds the search for a free address: other programs may
	// have sandboxes, or a server on port 9001 of all addresses.
	listenTries = 4096
)

// Config says where the backend keeps its files.
type Config struct {
	// Dir holds one directory per sandbox and belongs to this backend alone:
	// New removes the sandboxes that a killed process left in it. Empty means
	// a temporary directory that Close removes.
	Dir string
	// Logger is required.
	Logger *slog.Logger
}

// Backend is the process backend. Its methods are those of sandbox.Backend.
type Backend struct {
	dir     string
	ownsDir bool
	log     *slog.Logger
	spawner *spawner
	host    *host
	null    *os.File // /dev/null, the descriptors that a command leaves open

	stop    chan struct{} // closed by Close: ends the monitor
	monitor sync.WaitGroup

	mu     sync.Mutex
	closed bool
	live   map[*box]struct{}
	seq    uint32         // last number tried for a sandbox's address and tag
	making sync.WaitGroup // Creates under way; Add under mu while !closed
}

var _ sandbox.Backend = (*Backend)(nil)

// New prepares the backend and says in the log that it isolates nothing. It
// ends processes and removes files that an earlier backend on the same
// directory left when it was killed.
func New(cfg Config) (_ *Backend, err error) {
	b := &Backend{
		dir:  cfg.Dir,
		log:  cfg.Logger,
		stop: make(chan struct{}),
		live: make(map[*box]struct{}),
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("process sandbox: %w", errors.Join(err, b.release()))
		}
	}()
	if err := b.prepareDir(); err != nil {
		return nil, err
	}
	if b.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if b.host, err = newHost(b.dir); err != nil {
		return nil, err
	}
	if !b.ownsDir {
		if err := b.removeLeftovers(); err != nil {
			return nil, fmt.Errorf("remove leftovers: %w", err)
		}
	}
	b.spawner = startSpawner(b.host)
	b.monitor.Go(b.watch)
	b.log.Warn("THE PROCESS SANDBOX ISOLATES NOTHING: functions run as this user and can read, change and reach"+
		" everything that this user can; use it for development with trusted code only", "dir", b.dir)
	return b, nil
}

// release gives back the files that New opened or made.
func (b *Backend) release() (err error) {
	if b.null != nil {
		err = b.null.Close()
		if errors.Is(err, os.ErrClosed) { // a second Close
			err = nil
		}
	}
	if b.ownsDir && b.dir != "" {
		err = errors.Join(err, removeTree(b.dir))
	}
	return err
}

func (b *Backend) prepareDir() (err error) {
	if b.dir == "" {
		b.ownsDir = true
		b.dir, err = os.MkdirTemp("", "firn-process-")
		return err
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	return os.MkdirAll(b.dir, 0o700)
}

func (b *Backend) removeLeftovers() error {
	if n := b.host.killLeftovers(); n > 0 {
		b.log.Warn("ended processes that a killed firn had left", "processes", n)
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), dirPrefix) {
			err = errors.Join(err, removeTree(filepath.Join(b.dir, e.Name())))
		}
	}
	return err
}

// Name is "process".
func (b *Backend) Name() string { return "process" }

// Create makes the directory and the listener of a sandbox.
func (b *Backend) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, sandbox.ErrClosed
	}
	b.making.Add(1)
	b.mu.Unlock()
	defer b.making.Done()

	s, err := newBox(b, spec)
	if err != nil {
		return nil, fmt.Errorf("create sandbox %s: %w", spec.ID, err)
	}
	b.mu.Lock()
	b.live[s] = struct{}{}
	b.mu.Unlock()
	return s, nil
}

// Close ends every sandbox and removes what New made.
func (b *Backend) Close() error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	b.mu.Unlock()
	b.making.Wait()

	var errs []error
	for _, s := range b.boxes() {
		errs = append(errs, s.Close())
	}
	if first {
		close(b.stop)
	}
	b.monitor.Wait()
	b.spawner.close()
	return errors.Join(append(errs, b.release())...)
}

func (b *Backend) boxes() []*box {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]*box, 0, len(b.live))
	for s := range b.live {
		all = append(all, s)
	}
	return all
}

func (b *Backend) forget(s *box) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.live, s)
}

// watch samples the sandboxes that run, until Close. Frozen and empty ones
// cost nothing.
func (b *Backend) watch() {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
		}
		for _, s := range b.boxes() {
			if s.wantsSample() {
				s.sample()
			}
		}
	}
}

// listen opens a sandbox's listener under the next free number.
func (b *Backend) listen() (net.Listener, tag, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // what Go turns on by itself costs and brings nothing here
	for try := 0; ; try++ {
		b.mu.Lock()
		b.seq++
		seq := b.seq
		b.mu.Unlock()
		l, t, err := b.host.listen(&lc, seq)
		if err == nil || try == listenTries || !errors.Is(err, syscall.EADDRINUSE) {
			return l, t, err
		}
	}
}

func listen(lc *net.ListenConfig, addr string) (net.Listener, error) {
	return lc.Listen(context.Background(), "tcp4", addr)
}
