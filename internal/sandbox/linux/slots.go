//go:build linux

package linux

import (
	"fmt"
	"sync"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// slots numbers the sandboxes alive. The number decides over user ids, so it
// passes to another sandbox only when nothing of the first one runs. Numbers
// are taken in turn, so that this happens late. There are as many as blocks of
// user ids were claimed, and more blocks are claimed when all are used.
type slots struct {
	mu   sync.Mutex
	ids  *claims
	most int
	used []bool
	next int
	free int
}

func newSlots(most int, ids *claims) *slots { return &slots{most: most, ids: ids} }

func (s *slots) take() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		if err := s.growLocked(); err != nil {
			return -1, err
		}
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

func (s *slots) growLocked() error {
	more := min(sandboxesPerClaim, s.most-len(s.used))
	if more <= 0 {
		return fmt.Errorf("%d sandboxes are alive, the most that are configured", s.most)
	}
	if err := s.ids.another(); err != nil {
		return err
	}
	s.next = len(s.used)
	s.used = append(s.used, make([]bool, more)...)
	s.free += more
	return nil
}

func (s *slots) give(slot int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[slot] = false
	s.free++
}

// firstID is the first of a slot's user ids.
func (s *slots) firstID(slot int) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids.first(slot/sandboxesPerClaim) + uint32(slot%sandboxesPerClaim)*idsPerSandbox
}

// idMaps are the user and group ids of a sandbox: a range of its own, or for
// a firn that has rights over no other ids, the function as firn's own user.
func (b *Backend) idMaps(slot int) (uids, gids []initproto.IDMap) {
	if !b.privileged {
		return []initproto.IDMap{{Inside: functionUID, Outside: uint32(b.uid), Count: 1}},
			[]initproto.IDMap{{Inside: functionGID, Outside: uint32(b.gid), Count: 1}}
	}
	whole := []initproto.IDMap{{Inside: 0, Outside: b.slots.firstID(slot), Count: idsPerSandbox}}
	return whole, whole
}
