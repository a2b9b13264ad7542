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
	// maxKeyFile bounds what is read of a file that is something else.
	maxKeyFile = 4096
)

// loadKey reads the key file and makes it first if it is not there.
func loadKey(path string) ([]byte, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
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
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != keyBytes || strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	return key, true
}

// makeKey writes a new key beside the path and links it there: the file
// appears whole or not at all, and never replaces one.
func makeKey(path string) (err error) {
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-") // mode 0600
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
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
