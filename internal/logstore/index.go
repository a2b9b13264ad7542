package logstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// An index file lies beside each sealed segment, so that opening the store
// reads a summary of it instead of its events. It can always be made again
// from the segment.
//
//	header   magic[8] number[8] covers[8] salt[8] size[8] last[8] generation[4] spans[4] blocks[4] crc[4]
//	span     stream[8] min[8] max[8] ingested[8] bytes[8] events[4] zero[4]
//	block    stream[8] seq[8] min[8] max[8] offset[4] size[4] count[4]
//	end      crc of the blocks[4]
//
// The header's checksum covers the header and the spans.
const (
	indexMagic  = "firnidx1"
	indexHeader = 64
	spanEntry   = 48
	blockEntry  = 44
)

// summary is what a segment has of one stream.
type summary struct {
	stream   uint64
	min, max int64
	ingested int64 // the last time
	bytes    int64 // of its blocks
	events   uint32
}

// add extends the summary by a block.
func (s *summary) add(b block, ingested int64) {
	if s.events == 0 {
		s.min, s.max = b.min, b.max
	}
	s.min, s.max = min(s.min, b.min), max(s.max, b.max)
	s.ingested = max(s.ingested, ingested)
	s.bytes += int64(b.size)
	s.events += b.count
}

// index is an index file's content; blocks are nil when only the summary was
// read.
type index struct {
	origin
	size   int64  // of the segment file
	last   uint64 // the greatest sequence number
	spans  []summary
	blocks []block
	count  int // of blocks
}

// indexSize is how long an index file is.
func indexSize(spans, blocks int) int64 {
	return indexHeader + int64(spans)*spanEntry + int64(blocks)*blockEntry + 4
}

func (x *index) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, indexSize(len(x.spans), len(x.blocks)))
	b = append(b, indexMagic...)
	b = le.AppendUint64(b, x.id.number)
	b = le.AppendUint64(b, x.covers)
	b = le.AppendUint64(b, x.salt)
	b = le.AppendUint64(b, uint64(x.size))
	b = le.AppendUint64(b, x.last)
	b = le.AppendUint32(b, x.id.generation)
	b = le.AppendUint32(b, uint32(len(x.spans)))
	b = le.AppendUint32(b, uint32(len(x.blocks)))
	b = le.AppendUint32(b, 0)
	for _, s := range x.spans {
		b = le.AppendUint64(b, s.stream)
		b = le.AppendUint64(b, uint64(s.min))
		b = le.AppendUint64(b, uint64(s.max))
		b = le.AppendUint64(b, uint64(s.ingested))
		b = le.AppendUint64(b, uint64(s.bytes))
		b = le.AppendUint32(b, s.events)
		b = le.AppendUint32(b, 0)
	}
	le.PutUint32(b[indexHeader-4:], crc32.Checksum(b, castagnoli()))
	start := len(b)
	for _, d := range x.blocks {
		b = le.AppendUint64(b, d.stream)
		b = le.AppendUint64(b, d.seq)
		b = le.AppendUint64(b, uint64(d.min))
		b = le.AppendUint64(b, uint64(d.max))
		b = le.AppendUint32(b, d.off)
		b = le.AppendUint32(b, d.size)
		b = le.AppendUint32(b, d.count)
	}
	return le.AppendUint32(b, crc32.Checksum(b[start:], castagnoli()))
}

// readIndex reads an index file that is size bytes long, with its blocks or
// without.
func readIndex(r io.ReaderAt, size int64, id fileID, blocks bool) (*index, error) {
	head := make([]byte, indexHeader)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	x := &index{
		origin: origin{id: fileID{le.Uint64(head[8:]), le.Uint32(head[48:])}, covers: le.Uint64(head[16:]), salt: le.Uint64(head[24:])},
		size:   int64(le.Uint64(head[32:])), last: le.Uint64(head[40:]),
	}
	spans, count := int(le.Uint32(head[52:])), int(le.Uint32(head[56:]))
	if string(head[:8]) != indexMagic || x.id != id || indexSize(spans, count) != size {
		return nil, fmt.Errorf("%w: %s is not what its name says", errCorrupt, id.index())
	}
	x.count = count
	raw := make([]byte, spans*spanEntry)
	if _, err := r.ReadAt(raw, indexHeader); err != nil && len(raw) > 0 {
		return nil, err
	}
	want := le.Uint32(head[60:])
	le.PutUint32(head[60:], 0)
	if crc32.Update(crc32.Checksum(head, castagnoli()), castagnoli(), raw) != want {
		return nil, fmt.Errorf("%w: summary of %s", errCorrupt, id.index())
	}
	x.spans = make([]summary, spans)
	for i := range x.spans {
		b := raw[i*spanEntry:]
		x.spans[i] = summary{stream: le.Uint64(b), min: int64(le.Uint64(b[8:])), max: int64(le.Uint64(b[16:])),
			ingested: int64(le.Uint64(b[24:])), bytes: int64(le.Uint64(b[32:])), events: le.Uint32(b[40:])}
	}
	if blocks {
		return x, x.readBlocks(r, int64(indexHeader+len(raw)))
	}
	return x, nil
}

func (x *index) readBlocks(r io.ReaderAt, off int64) error {
	le := binary.LittleEndian
	raw := make([]byte, x.count*blockEntry+4)
	if _, err := r.ReadAt(raw, off); err != nil {
		return err
	}
	end := len(raw) - 4
	if crc32.Checksum(raw[:end], castagnoli()) != le.Uint32(raw[end:]) {
		return fmt.Errorf("%w: blocks of %s", errCorrupt, x.id.index())
	}
	x.blocks = make([]block, x.count)
	for i := range x.blocks {
		b := raw[i*blockEntry:]
		d := block{stream: le.Uint64(b), seq: le.Uint64(b[8:]), min: int64(le.Uint64(b[16:])), max: int64(le.Uint64(b[24:])),
			off: le.Uint32(b[32:]), size: le.Uint32(b[36:]), count: le.Uint32(b[40:])}
		if d.size > blockHeader+maxBlock || int64(d.off)+int64(d.size) > x.size {
			return fmt.Errorf("%w: block %d of %s", errCorrupt, i, x.id.index())
		}
		x.blocks[i] = d
	}
	return nil
}

// readIndexFile opens the index file of a segment.
func readIndexFile(dir string, id fileID, blocks bool) (*index, error) {
	f, err := os.Open(dir + "/" + id.index())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return readIndex(f, fi.Size(), id, blocks)
}

// scan reads a whole segment and makes its index: up to the first block that
// is not whole, which is where the index's size ends.
func scan(r io.Reader, id fileID) (*index, error) {
	head := make([]byte, segmentHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("%s: %w", id.log(), err)
	}
	o, err := parseOrigin(head, id)
	if err != nil {
		return nil, err
	}
	x := &index{origin: o, size: segmentHeader}
	check, at := newSealer(o.salt), map[uint64]int{}
	buf := make([]byte, blockHeader, 2*blockTarget)
	for {
		buf = buf[:blockHeader]
		if _, err := io.ReadFull(r, buf); err != nil {
			return x, scanEnd(err)
		}
		size, err := blockSize(buf)
		if err != nil || x.size+int64(size) > maxSegment {
			return x, nil
		}
		buf = append(buf, make([]byte, size-blockHeader)...)
		if _, err := io.ReadFull(r, buf[blockHeader:]); err != nil {
			return x, scanEnd(err)
		}
		d, ingested, err := check.parse(buf)
		if err != nil {
			return x, nil
		}
		x.add(d, ingested, at)
	}
}

// add puts a block at the end of the segment; at finds the span of a stream.
func (x *index) add(d block, ingested int64, at map[uint64]int) {
	d.off = uint32(x.size)
	i, ok := at[d.stream]
	if !ok {
		i, at[d.stream] = len(x.spans), len(x.spans)
		x.spans = append(x.spans, summary{stream: d.stream})
	}
	x.spans[i].add(d, ingested)
	x.blocks = append(x.blocks, d)
	x.count++
	x.size += int64(d.size)
	x.last = max(x.last, d.seq+uint64(d.count)-1)
}

// scanEnd tells the end of the file, which ends a scan, from a failure.
func scanEnd(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}
