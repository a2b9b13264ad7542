package series

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// A journal is a file of frames: length, CRC-32C, payload. Frames are appended
// in groups: whoever waits for its frame first writes and syncs those of all.
// After a failed sync nothing is accepted any more, since the kernel may have
// forgotten what it could not write.

const frameHead = 8

// maxFrame bounds what is believed of a frame's length.
const maxFrame = 64 << 20

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// journal is the one file that is written; earlier ones wait for the head's
// next flush.
type journal struct {
	// syncing is held while the file is written; it is taken before mu.
	syncing sync.Mutex
	file    *os.File // guarded by syncing
	written int64    // bytes of whole, synced frames; guarded by syncing

	mu     sync.Mutex
	buf    []byte // frames not yet written
	spare  []byte // the buffer that was written last
	group  *group // of the frames in buf; nil when there are none
	broken error
}

// group is frames that are written together; its members are guarded by
// syncing.
type group struct {
	done bool
	err  error
}

func appendFrame(b, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli()))
	return append(b, payload...)
}

// append queues a frame and returns its group for wait.
func (j *journal) append(payload []byte) *group {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = appendFrame(j.buf, payload)
	if j.group == nil {
		j.group = &group{}
	}
	return j.group
}

// wait returns when the group is on the disk.
func (j *journal) wait(g *group) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if !g.done {
		j.syncLocked(j.take())
	}
	return g.err
}

// sync writes what is queued.
func (j *journal) sync() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	buf, g := j.take()
	j.syncLocked(buf, g)
	if g == nil {
		return nil
	}
	return g.err
}

// take removes what is queued, to be written.
func (j *journal) take() ([]byte, *group) {
	j.mu.Lock()
	defer j.mu.Unlock()
	buf, g := j.buf, j.group
	j.buf, j.group, j.spare = j.spare[:0], nil, nil
	return buf, g
}

// syncLocked writes what take has removed.
func (j *journal) syncLocked(buf []byte, g *group) {
	if g == nil {
		return
	}
	j.mu.Lock()
	err := j.broken
	j.mu.Unlock()
	if err == nil {
		err = j.write(buf)
	}
	g.done, g.err = true, err

	j.mu.Lock()
	defer j.mu.Unlock()
	if cap(buf) <= 1<<20 {
		j.spare = buf
	}
	if err != nil && j.broken == nil && !errors.Is(err, ErrFull) {
		j.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		g.err = j.broken
	}
}

// write appends to the file and syncs it. Without room for all of it, the file
// is as it was before.
func (j *journal) write(b []byte) error {
	if _, err := j.file.WriteAt(b, j.written); err != nil {
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
			return err
		}
		if err := j.file.Truncate(j.written); err != nil {
			return err
		}
		return ErrFull
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.written += int64(len(b))
	return nil
}

// replay reads a journal and gives every sample to apply. What follows the
// last whole frame is cut off.
func replay(path string, apply func(Sample)) (cut int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	good := int64(0)
	for {
		payload, err := readFrame(io.NewSectionReader(f, good, info.Size()-good))
		if err != nil {
			break
		}
		good += int64(len(payload)) + frameHead
		r := reader{b: payload}
		for len(r.b) > 0 && r.err == nil {
			if s := r.sample(); r.err == nil {
				apply(s)
			}
		}
	}
	if good == info.Size() {
		return 0, nil
	}
	if err := f.Truncate(good); err != nil {
		return 0, err
	}
	return info.Size() - good, f.Sync()
}

func readFrame(r *io.SectionReader) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if n > maxFrame || n > r.Size()-frameHead {
		return nil, errCorrupt
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, err
	}
	if crc32.Checksum(payload, castagnoli()) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errCorrupt
	}
	return payload, nil
}

func journalPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("journal-%08d", number))
}

// newJournalFile makes an empty journal whose name survives a crash.
func newJournalFile(dir string, number uint64) (*os.File, error) {
	f, err := os.OpenFile(journalPath(dir, number), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
