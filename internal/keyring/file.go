package keyring

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	keyBytes = 32
	// keyPrefix versions the file's one line: "firn-key-1 " and the key in base64.
	keyPrefix = "firn-key-1 "
	// newSuffix is of the file's name while it is being made.
	newSuffix = ".new"
	// maxKeyFile bounds what is read of a file that is something else.
	maxKeyFile = 4096
)

// loadKey reads the key file and makes it first if it is not there. The data
// directory has one owner, so nobody else is at it.
func loadKey(path string, mustExist bool) ([]byte, error) {
	// A process that was killed while it made the file may have left this.
	if err := os.Remove(path + newSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("clean up key file: %w", err)
	}
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if mustExist {
		return nil, fmt.Errorf("key file %s is missing, though there are secrets sealed with it: restore it from a backup, or begin with an empty data directory", path)
	}
	if err := makeKey(path); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	return readKey(path)
}

// readKey reads and checks the key file. Its messages never quote it.
func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file", path)
	}
	if mode := fi.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("key file %s has mode %04o and others could read it: chmod 600 %s, and think of replacing what it protects", path, mode, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	key, ok := parseKey(string(b))
	if !ok {
		return nil, fmt.Errorf("key file %s is damaged or of a newer firn: restore it from a backup (without it, sealed secrets are lost)", path)
	}
	return key, nil
}

func parseKey(s string) ([]byte, bool) {
	text, ok := strings.CutPrefix(s, keyPrefix)
	if !ok {
		return nil, false
	}
	text, ok = strings.CutSuffix(text, "\n")
	if !ok {
		return nil, false
	}
	key, ok := decode(base64.StdEncoding, text)
	return key, ok && len(key) == keyBytes
}

// makeKey writes a new key beside the path and links it there: the file
// appears whole or not at all, and never replaces one.
func makeKey(path string) error {
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails
	f, err := os.OpenFile(path+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(keyPrefix + base64.StdEncoding.EncodeToString(key) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
