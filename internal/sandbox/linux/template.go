//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// template has the spawner keep a root that is like the host, from which each
// sandbox gets a copy. Rootless there is none: what an init may mount there has
// to be mounted by itself.
type template struct {
	log *slog.Logger

	mu    sync.Mutex
	files systemFiles
	seen  []identity // of the files when the template was made
	given *conn      // the spawner that has it, as far as it can
}

// identity tells a file from one that took its place, as the host's updates do
// with the linker's cache.
type identity struct{ dev, ino uint64 }

// identities are zero for what is not there.
func (s systemFiles) identities() []identity {
	list := make([]identity, len(s.mounts))
	for i, m := range s.mounts {
		var st unix.Stat_t
		if unix.Stat(m.Source, &st) == nil {
			list[i] = identity{uint64(st.Dev), st.Ino}
		}
	}
	return list
}

// give brings the template of the spawner behind c up to date.
func (t *template) give(ctx context.Context, c *conn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.files.identities()
	if t.given == c && slices.Equal(now, t.seen) {
		return nil
	}
	var err error
	if t.files, err = findSystemFiles(); err != nil {
		return err
	}
	t.seen = t.files.identities()
	list, fds, err := mounter{privileged: true}.prepare(t.files.mounts, nil)
	if err != nil {
		return err
	}
	defer closeFDs(fds)
	_, err = c.call(ctx, &initproto.Template{Mounts: list, Links: t.files.links}, fds...)
	var refused *stepError
	if errors.As(err, &refused) {
		t.log.Info("every sandbox builds its root directory by itself, which takes longer", "reason", err)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("make the template of sandboxes: %w", err)
	}
	t.given = c
	return nil
}
