//go:build linux

package linux

import (
	"fmt"
	"sync"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// slots numbers the sandboxes alive. The number decides over user ids, so it
// passes to another sandbox only when nothing of the first one runs. Numbers
// are taken in turn, so that this happens late.
type slots struct {
	mu   sync.Mutex
	used []bool
	next int
	free int
}

func newSlots(n int) *slots { return &slots{used: make([]bool, n), free: n} }

func (s *slots) take() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		return -1, fmt.Errorf("%d sandboxes are alive, the most that are configured", len(s.used))
	}
	for s.used[s.next] {
		s.next = (s.next + 1) % len(s.used)
	}
	slot := s.next
	s.used[slot] = true
	s.free--
	s.next = (s.next + 1) % len(s.used)
	return slot, nil
}

func (s *slots) give(slot int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[slot] = false
	s.free++
}

// idMaps are the user and group ids of a sandbox: a range of its own, or for
// a firn that has rights over no other ids, the function as firn's own user.
func (b *Backend) idMaps(slot int) (uids, gids []initproto.IDMap) {
	if !b.privileged {
		return []initproto.IDMap{{Inside: functionUID, Outside: uint32(b.uid), Count: 1}},
			[]initproto.IDMap{{Inside: functionGID, Outside: uint32(b.gid), Count: 1}}
	}
	first := b.cfg.FirstUID + uint32(slot)*idsPerSandbox
	whole := []initproto.IDMap{{Inside: 0, Outside: first, Count: idsPerSandbox}}
	return whole, whole
}
