package runtimes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/firn-run/firn"
)

// ErrInUse is returned by Remove for a runtime that a running firn has used.
var ErrInUse = errors.New("the runtime is in use by a running firn: stop it first")

// MissingError says that a runtime is not in the store.
type MissingError struct {
	Name    string
	Command string // that brings it
}

// Error tells what to do.
func (e *MissingError) Error() string {
	return "The runtime " + e.Name + " is not on this machine yet. Bring it with: " + e.Command
}

// Manifest says what a name stands for.
type Manifest struct {
	Name   string      `json:"name"`
	Digest firn.Digest `json:"digest"` // of the tree; of the image's manifest when it is Whole
	Origin string      `json:"origin"` // Built, Pulled or Imported
	// Interpreter and Client say what was put together: "python 3.11.7 of
	// /usr/bin/python3.11", "awslambdaric 4.2.2". "" for images.
	Interpreter string `json:"interpreter,omitempty"`
	Client      string `json:"client,omitempty"`
	// Whole trees are root file systems, from the image or file that Source
	// names; the others have var/lang and var/runtime only.
	Whole  bool   `json:"whole,omitempty"`
	Source string `json:"source,omitempty"`

	Bytes int64     `json:"bytes"` // of the files of the tree
	Files int       `json:"files"`
	Made  time.Time `json:"made"`
}

// Store is the runtimes in one directory. Several processes may have it open.
// Safe for concurrent use.
type Store struct {
	dir string
	// command is how to call firn to bring a runtime into this store, with
	// NAME in the place of the runtime's name.
	command string

	mu   sync.Mutex
	held map[firn.Digest]*os.File // trees that were handed out, with shared locks
}

// Open prepares the directory. command is told to who misses a runtime: it has
// NAME where the runtime's name belongs.
func Open(dir, command string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open the runtimes: %w", err)
	}
	for _, sub := range []string{"trees", "names", "work", "cache"} {
		// The trees are for the users of sandboxes too.
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("open the runtimes: %w", err)
		}
	}
	return &Store{dir: dir, command: command, held: map[firn.Digest]*os.File{}}, nil
}

// Close lets go of the trees that were handed out.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for digest, f := range s.held {
		errs = append(errs, f.Close())
		delete(s.held, digest)
	}
	return errors.Join(errs...)
}

// Missing is the error for a runtime that the store has not.
// One that cannot be built is to be pulled.
func (s *Store) Missing(name string) *MissingError {
	command := strings.ReplaceAll(s.command, "NAME", name)
	if r, ok := Lookup(name); ok && !r.Buildable() {
		command = strings.Replace(command, "runtime build", "runtime pull", 1)
	}
	return &MissingError{Name: name, Command: command}
}

// Has says whether the store has a runtime: nil, or the *MissingError to tell.
func (s *Store) Has(name string) error {
	_, err := s.manifest(name)
	return err
}

// Version is the digest of the tree that Runtime returns for a name now. The
// error is a *MissingError when there is none.
func (s *Store) Version(_ context.Context, name string) (firn.Digest, error) {
	m, err := s.manifest(name)
	return m.Digest, err
}

// Runtime returns the directory that holds var/lang and var/runtime. It stays
// as it is until Close, also when the name is brought anew. The error is a
// *MissingError when there is none. A whole one is the root file system of its
// functions; the others run over the host's libraries.
func (s *Store) Runtime(ctx context.Context, name string) (dir string, whole bool, err error) {
	if err := ctx.Err(); err != nil {
		return "", false, err
	}
	// A build in another process may put the next tree in the place of this
	// one, and remove this one before it is locked here.
	for range 3 {
		var m Manifest
		if m, err = s.manifest(name); err != nil {
			return "", false, err
		}
		if err = s.hold(m.Digest); err == nil {
			return s.tree(m.Digest), m.Whole, nil
		}
	}
	return "", false, fmt.Errorf("runtime %s: %w", name, err)
}

func (s *Store) tree(digest firn.Digest) string {
	return filepath.Join(s.dir, "trees", string(digest))
}

// hold locks a tree against removal.
func (s *Store) hold(digest firn.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[digest] != nil {
		return nil
	}
	f, err := os.Open(s.tree(digest))
	if err != nil {
		return err
	}
	if err := flock(f, syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		return errors.Join(err, f.Close())
	}
	s.held[digest] = f
	return nil
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func (s *Store) nameFile(name string) string {
	return filepath.Join(s.dir, "names", name+".json")
}

// manifest reads what name stands for. Names come from the API: only those of
// the catalogue are looked up.
func (s *Store) manifest(name string) (Manifest, error) {
	var m Manifest
	if _, ok := Lookup(name); !ok {
		return m, s.Missing(name)
	}
	text, err := os.ReadFile(s.nameFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return m, s.Missing(name)
	}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err == nil && (m.Name != name || len(m.Digest) != 64 || strings.ContainsAny(string(m.Digest), "./")) {
		err = errors.New("the manifest is damaged")
	}
	if err != nil {
		return m, fmt.Errorf("runtime %s: %w", name, err)
	}
	return m, nil
}

// List returns the runtimes of the store in the catalogue's order.
func (s *Store) List() ([]Manifest, error) {
	var list []Manifest
	for _, r := range All() {
		m, err := s.manifest(r.Name)
		if _, missing := errors.AsType[*MissingError](err); missing {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// Remove forgets a runtime, and its tree, and what it came in, if no other name
// stands for it. The error is a *MissingError or ErrInUse.
func (s *Store) Remove(ctx context.Context, name string) error {
	m, err := s.manifest(name)
	if err != nil {
		return err
	}
	if err := s.remove(ctx, m); err != nil {
		return fmt.Errorf("remove runtime %s: %w", name, err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, m Manifest) (err error) {
	if !m.Whole {
		return s.dropTree(m.Digest, m.Name)
	}
	images, err := s.openImages(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, images.Close()) }()
	if err := s.dropTree(m.Digest, m.Name); err != nil {
		return err
	}
	return s.sweepImages(ctx, images, m.Digest)
}

// dropTree removes a tree that only name, if anybody, stands for, and the name
// first.
func (s *Store) dropTree(digest firn.Digest, name string) error {
	dir := s.tree(digest)
	f, err := os.Open(dir)
	if err == nil {
		defer f.Close()
		if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return ErrInUse
			}
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := s.List()
	if err != nil {
		return err
	}
	if name != "" {
		if err := os.Remove(s.nameFile(name)); err != nil {
			return err
		}
	}
	for _, other := range list {
		if other.Name != name && other.Digest == digest {
			return nil
		}
	}
	// Out of the way first: half a tree must not be found by its digest.
	away, err := os.MkdirTemp(filepath.Join(s.dir, "work"), "removed-")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(away, "tree")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.Remove(away))
	}
	return os.RemoveAll(away)
}

// install gives a finished tree its name. A tree with the same content is kept,
// and the one that the name stood for before is removed if nobody uses it.
func (s *Store) install(root string, m Manifest) error {
	before, err := s.manifest(m.Name)
	hadOne := err == nil
	syscall.Sync() // a name must not lead to files that a crash has emptied
	if err := os.Rename(root, s.tree(m.Digest)); err != nil {
		if _, there := os.Stat(s.tree(m.Digest)); there != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := writeDurably(s.nameFile(m.Name), append(text, '\n')); err != nil {
		return err
	}
	if !hadOne || before.Digest == m.Digest {
		return nil
	}
	if err := s.dropTree(before.Digest, ""); err != nil && !errors.Is(err, ErrInUse) {
		return err
	}
	return nil
}

// writeDurably replaces a file in one step.
func writeDurably(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
