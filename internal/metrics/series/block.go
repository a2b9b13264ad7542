package series

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
)

// A block is an immutable file of the points of one period and one window of
// time:
//
//	magic
//	frame per series, in order of id: key, n, (time since the last, point)*
//	footer: id, offset, length, time of the last point; per series
//	trailer: offset of the footer, number of entries, CRC-32C of the footer
//
// The footer is kept in memory without times, 16 bytes per series.

const (
	magic       = "firnser1"
	footerEntry = 24
	trailerSize = 16
)

// timed is a point and the begin of its period.
type timed struct {
	t int64 // seconds since 1970
	p Point
}

// run is the points of one series, sorted by time, each time once.
type run []timed

// add merges a point into the run.
func (r *run) add(t int64, p Point) *timed {
	i := len(*r)
	if i > 0 && (*r)[i-1].t >= t {
		i, _ = slices.BinarySearchFunc(*r, t, func(x timed, t int64) int { return cmp.Compare(x.t, t) })
	}
	if i < len(*r) && (*r)[i].t == t {
		(*r)[i].p.Merge(p)
		return &(*r)[i]
	}
	p.Dist = p.Dist.clone()
	*r = slices.Insert(*r, i, timed{t, p})
	return &(*r)[i]
}

// entry says where the frame of a series lies.
type entry struct {
	id          uint64
	offset, len uint32
}

// described is what the manifest says of a block.
type described struct {
	File  string `json:"file"`
	Tier  int    `json:"tier"`
	Start int64  `json:"start"` // of the window
	Size  int64  `json:"size"`
}

// block is an open block. The file is closed when the last of those who use
// it lets go of it.
type block struct {
	described
	file    *os.File
	entries []entry
	users   atomic.Int32
}

func (b *block) release() {
	if b.users.Add(-1) == 0 {
		b.file.Close()
	}
}

func (b *block) end() int64 { return b.Start + tiers()[b.Tier].window }

// openBlock opens a block and tells of every series in it.
func openBlock(dir string, d described, each func(e entry, last int64, b *block)) (*block, error) {
	f, err := os.Open(filepath.Join(dir, d.File))
	if err != nil {
		return nil, err
	}
	b := &block{described: d, file: f}
	b.users.Store(1)
	if err := b.readFooter(each); err != nil {
		f.Close()
		return nil, fmt.Errorf("block %s: %w", d.File, err)
	}
	return b, nil
}

func (b *block) readFooter(each func(e entry, last int64, b *block)) error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != b.Size || b.Size < trailerSize+int64(len(magic)) {
		return errCorrupt
	}
	var tail [trailerSize]byte
	if _, err := b.file.ReadAt(tail[:], b.Size-trailerSize); err != nil {
		return err
	}
	offset, n := int64(binary.LittleEndian.Uint64(tail[:])), int64(binary.LittleEndian.Uint32(tail[8:]))
	if offset < 0 || offset+n*footerEntry+trailerSize != b.Size {
		return errCorrupt
	}
	footer := make([]byte, n*footerEntry)
	if _, err := b.file.ReadAt(footer, offset); err != nil {
		return err
	}
	if crc32.Checksum(footer, castagnoli()) != binary.LittleEndian.Uint32(tail[12:]) {
		return errCorrupt
	}
	b.entries = make([]entry, n)
	for i := range b.entries {
		row := footer[i*footerEntry:]
		b.entries[i] = entry{binary.LittleEndian.Uint64(row), binary.LittleEndian.Uint32(row[8:]), binary.LittleEndian.Uint32(row[12:])}
		if each != nil {
			each(b.entries[i], int64(binary.LittleEndian.Uint64(row[16:])), b)
		}
	}
	return nil
}

// find returns where a series lies.
func (b *block) find(id uint64) (entry, bool) {
	i, ok := slices.BinarySearchFunc(b.entries, id, func(e entry, id uint64) int { return cmp.Compare(e.id, id) })
	if !ok {
		return entry{}, false
	}
	return b.entries[i], true
}

// read decodes the frame of a series, its points only when they are asked for.
func (b *block) read(e entry, points bool) (Key, run, error) {
	frame := io.NewSectionReader(b.file, int64(e.offset), int64(e.len))
	payload, err := readFrame(frame)
	if err != nil {
		return Key{}, nil, fmt.Errorf("block %s: %w", b.File, err)
	}
	r := reader{b: payload}
	key := r.key()
	if !points {
		return key, nil, r.err
	}
	out := make(run, 0, r.length(4))
	t := int64(0)
	for range cap(out) {
		t += r.varint()
		out = append(out, timed{t, r.point()})
	}
	return key, out, r.err
}

// blockWriter writes a block, series in order of their ids.
type blockWriter struct {
	file   *os.File
	w      *bufio.Writer
	at     int64
	footer []byte
	buf    []byte
	frame  []byte
}

func newBlockWriter(path string) (*blockWriter, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w := &blockWriter{file: f, w: bufio.NewWriterSize(f, 64<<10)}
	return w, w.put([]byte(magic))
}

func (w *blockWriter) put(b []byte) error {
	w.at += int64(len(b))
	_, err := w.w.Write(b)
	return err
}

// add writes one series.
func (w *blockWriter) add(id uint64, key *Key, points run) error {
	if len(points) == 0 {
		return nil
	}
	w.buf = binary.AppendUvarint(appendKey(w.buf[:0], key), uint64(len(points)))
	last := int64(0)
	for i := range points {
		w.buf = appendPoint(binary.AppendVarint(w.buf, points[i].t-last), &points[i].p)
		last = points[i].t
	}
	w.frame = appendFrame(w.frame[:0], w.buf)
	if w.at+int64(len(w.frame)) > 1<<32-1 || len(w.buf) > maxFrame {
		return errors.New("series: a block grows beyond its bounds")
	}
	w.footer = binary.LittleEndian.AppendUint64(w.footer, id)
	w.footer = binary.LittleEndian.AppendUint32(w.footer, uint32(w.at))
	w.footer = binary.LittleEndian.AppendUint32(w.footer, uint32(len(w.frame)))
	w.footer = binary.LittleEndian.AppendUint64(w.footer, uint64(last))
	return w.put(w.frame)
}

// finish ends the file and syncs it. It returns its size.
func (w *blockWriter) finish() (int64, error) {
	tail := binary.LittleEndian.AppendUint64(nil, uint64(w.at))
	tail = binary.LittleEndian.AppendUint32(tail, uint32(len(w.footer)/footerEntry))
	tail = binary.LittleEndian.AppendUint32(tail, crc32.Checksum(w.footer, castagnoli()))
	err := errors.Join(w.put(w.footer), w.put(tail))
	if err == nil {
		err = w.w.Flush()
	}
	if err == nil {
		err = w.file.Sync()
	}
	return w.at, errors.Join(err, w.file.Close())
}

// abandon gives up and removes the file.
func (w *blockWriter) abandon() {
	w.file.Close()
	os.Remove(w.file.Name())
}
