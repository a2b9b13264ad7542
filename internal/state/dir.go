package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Names inside a data directory. They are its format: changing one needs a
// migration.
const (
	lockName     = "lock"
	databaseName = "state.db"
	keyName      = "key"
	blobsName    = "blobs"
)

// DataDir is a data directory that this process owns alone: as long as it is
// open no other firn can open it. The server opens it once and gives its
// parts to those who need them.
//
//	lock      the owner's process id, held by flock
//	state.db  records (with -wal and -shm beside it)
//	key       the key file of package keyring
//	blobs/    content-addressed files of package blob
type DataDir struct {
	path  string
	lock  *os.File
	fresh bool // immutable
}

// DirInUseError says that another process owns the data directory.
type DirInUseError struct {
	Dir string
	PID int // of the owner; 0 when it could not be read
}

// Error names the directory, its owner and the way out.
func (e *DirInUseError) Error() string {
	owner := "another process"
	if e.PID > 0 {
		owner = "process " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("data directory %s is in use by %s: stop that firn first, or choose another data directory for this one", e.Dir, owner)
}

// OpenDir makes the directory if it does not exist (mode 0700) and takes its
// lock. The error is a *DirInUseError when another process has it. The lock
// ends with Close or with the process, however it ends.
func OpenDir(path string) (*DataDir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := acquire(abs)
	if err != nil {
		return nil, err
	}
	d := &DataDir{path: abs, lock: lock}
	fi, err := os.Stat(filepath.Join(abs, databaseName))
	d.fresh = errors.Is(err, os.ErrNotExist) || err == nil && fi.Size() == 0
	if err := writePID(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("write %s: %w", lock.Name(), err)
	}
	return d, nil
}

// acquire returns the locked lock file. Should the file have been replaced
// between open and lock, the lock is on a file that nobody else sees, so it
// starts again.
func acquire(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockName)
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open data directory: %w", err)
		}
		if err := flock(f); err != nil {
			defer f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, &DirInUseError{Dir: dir, PID: readPID(f)}
			}
			return nil, fmt.Errorf("lock %s: %w (the data directory must be on a local file system)", name, err)
		}
		mine, err1 := f.Stat()
		now, err2 := os.Stat(name)
		if err1 == nil && err2 == nil && os.SameFile(mine, now) {
			return f, nil
		}
		f.Close()
		if err1 != nil || (err2 != nil && !errors.Is(err2, os.ErrNotExist)) {
			return nil, fmt.Errorf("lock %s: %w", name, errors.Join(err1, err2))
		}
	}
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR {
			return err
		}
	}
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Path is the directory itself, absolute.
func (d *DataDir) Path() string { return d.path }

// Fresh is true when the directory had no database at OpenDir: only then may
// its other parts, the key file above all, be missing.
func (d *DataDir) Fresh() bool { return d.fresh }

// KeyFile is where package keyring keeps its key.
func (d *DataDir) KeyFile() string { return KeyFile(d.path) }

// KeyFile is where the data directory at path has its key, for those who read
// it beside its owner.
func KeyFile(path string) string { return filepath.Join(path, keyName) }

// Blobs is the directory of package blob, which makes it.
func (d *DataDir) Blobs() string { return filepath.Join(d.path, blobsName) }

// Sub makes the named directory inside (mode 0700), if it does not exist, for
// a part that keeps its own files, and returns its path.
func (d *DataDir) Sub(name string) (string, error) {
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("data directory: %q is not a name inside of it", name)
	}
	path := filepath.Join(d.path, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	return path, syncDir(d.path)
}

// Close gives the directory up. Close what lives inside first. It may be
// called more than once.
func (d *DataDir) Close() error {
	err := d.lock.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", path, err)
	}
	return nil
}
