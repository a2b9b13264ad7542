//go:build linux

package linux

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// initFiles holds firn-init when firn was built by make, and a README always.
//
//go:embed initbin
var initFiles embed.FS

const initName = "firn-init"

// openInit returns a descriptor that firn-init can be executed from. The
// embedded program goes to a sealed anonymous file: nothing is written to a
// disk, and nobody can change it.
func openInit(path string) (*os.File, error) {
	if path != "" {
		return os.Open(path)
	}
	embedded, err := initFiles.Open("initbin/" + initName)
	if err == nil {
		defer embedded.Close()
		return sealedCopy(embedded)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", initName, err)
	}
	f, err := os.Open(filepath.Join(filepath.Dir(self), initName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this firn was built without %s, the first process of every sandbox: build it with `make`", initName)
	}
	return f, err
}

func sealedCopy(program io.Reader) (*os.File, error) {
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(initName, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(initName, flags)
	}
	if err != nil {
		return unlinkedCopy(program, err)
	}
	f := os.NewFile(uintptr(fd), initName)
	if _, err := io.Copy(f, program); err != nil {
		return nil, errors.Join(fmt.Errorf("copy %s to memory: %w", initName, err), f.Close())
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, errors.Join(fmt.Errorf("seal %s: %w", initName, err), f.Close())
	}
	return f, nil
}

// unlinkedCopy is for hosts that forbid executable memory files (sysctl
// vm.memfd_noexec=2). The file has no name any more when this returns.
func unlinkedCopy(program io.Reader, cause error) (*os.File, error) {
	w, err := os.CreateTemp("", initName+"-*")
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	defer os.Remove(w.Name())
	_, err = io.Copy(w, program)
	err = errors.Join(err, w.Chmod(0o755))
	f, openErr := os.Open(w.Name())
	// The kernel executes no file that is open for writing.
	if err = errors.Join(err, w.Close(), openErr); err != nil {
		return nil, errors.Join(cause, err)
	}
	return f, nil
}
