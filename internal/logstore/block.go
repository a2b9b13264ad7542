package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A segment file is a header and then blocks, one behind the other. Numbers
// are little endian.
//
//	header   magic[8] number[8] covers[8] salt[8] generation[4] crc[4]
//	block    crc[4] length[4] count[4] zero[4] stream[8] seq[8] min[8] max[8] ingested[8] events
//	event    uvarint(timestamp-min) uvarint(length) message
//
// A segment that compaction made of several has the number of the first and
// covers the last: what else is found in this range is out of date.
//
// The checksum of a block covers all that follows it, and starts from the
// segment's random salt: what a function writes, which may be a block of its
// own making, can then never pass for one.
const (
	segmentMagic  = "firnlog1"
	segmentHeader = 40
	blockHeader   = 56
	// blockTarget is the size of events from which a block is closed.
	blockTarget = 64 << 10
	// maxBlock bounds a block's events: one that is nearly full gets one more.
	maxBlock = blockTarget + MaxMessage + 32
)

var errCorrupt = errors.New("corrupt block")

// castagnoli is the polynomial that processors have instructions for.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// block is what is known of a block without reading it.
type block struct {
	stream   uint64
	seq      uint64 // of its first event; the others follow
	min, max int64  // timestamps
	off      uint32 // in the segment file
	size     uint32 // with the header
	count    uint32 // events
}

// sealer makes and checks the checksums of one segment.
type sealer struct{ seed uint32 }

func newSealer(salt uint64) sealer {
	return sealer{crc32.Checksum(binary.LittleEndian.AppendUint64(nil, salt), castagnoli())}
}

func (s sealer) sum(b []byte) uint32 { return crc32.Update(s.seed, castagnoli(), b) }

// blockOf is what appendBlock is told besides the events.
type blockOf struct {
	stream, seq uint64
	ingested    int64
}

// appendBlock encodes as many of the events as one block takes, and tells how
// many. The offset of the block returned is left to the caller.
func (s sealer) appendBlock(dst []byte, of blockOf, events []Event) ([]byte, block) {
	n, size := 0, 0
	low, high := events[0].Timestamp, events[0].Timestamp
	for n < len(events) && size < blockTarget {
		low, high = min(low, events[n].Timestamp), max(high, events[n].Timestamp)
		size += len(events[n].Message) + 4
		n++
	}
	start := len(dst)
	dst = append(dst, make([]byte, blockHeader)...)
	for _, e := range events[:n] {
		dst = binary.AppendUvarint(dst, uint64(e.Timestamp-low))
		dst = binary.AppendUvarint(dst, uint64(len(e.Message)))
		dst = append(dst, e.Message...)
	}
	b := dst[start:]
	le := binary.LittleEndian
	le.PutUint32(b[4:], uint32(len(b)-blockHeader))
	le.PutUint32(b[8:], uint32(n))
	le.PutUint64(b[16:], of.stream)
	le.PutUint64(b[24:], of.seq)
	le.PutUint64(b[32:], uint64(low))
	le.PutUint64(b[40:], uint64(high))
	le.PutUint64(b[48:], uint64(of.ingested))
	s.reseal(b)
	return dst, block{stream: of.stream, seq: of.seq, min: low, max: high, size: uint32(len(b)), count: uint32(n)}
}

// reseal makes a block of another segment one of this.
func (s sealer) reseal(b []byte) { binary.LittleEndian.PutUint32(b, s.sum(b[4:])) }

// blockSize is how long the block is whose header is at the front of b.
func blockSize(b []byte) (int, error) {
	if len(b) < blockHeader {
		return 0, fmt.Errorf("%w: %d bytes are no header", errCorrupt, len(b))
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n > maxBlock {
		return 0, fmt.Errorf("%w: length %d", errCorrupt, n)
	}
	return blockHeader + int(n), nil
}

// parse checks the block that b is, exactly, and reads its header.
func (s sealer) parse(b []byte) (block, int64, error) {
	size, err := blockSize(b)
	if err != nil {
		return block{}, 0, err
	}
	le := binary.LittleEndian
	if size != len(b) || le.Uint32(b) != s.sum(b[4:]) {
		return block{}, 0, fmt.Errorf("%w: wrong checksum", errCorrupt)
	}
	d := block{
		stream: le.Uint64(b[16:]), seq: le.Uint64(b[24:]),
		min: int64(le.Uint64(b[32:])), max: int64(le.Uint64(b[40:])),
		size: uint32(size), count: le.Uint32(b[8:]),
	}
	// An event is two bytes at least.
	if d.count == 0 || int(d.count) > (size-blockHeader)/2 || d.min > d.max || d.seq+uint64(d.count) < d.seq {
		return block{}, 0, fmt.Errorf("%w: impossible header", errCorrupt)
	}
	return d, int64(le.Uint64(b[48:])), nil
}

// events calls yield for each event of a parsed block, in the order of
// arrival. The message is a part of b.
func (d block) events(b []byte, yield func(at Position, message []byte)) error {
	b = b[blockHeader:]
	for i := range d.count {
		delta, n := binary.Uvarint(b)
		if n <= 0 {
			return fmt.Errorf("%w: event %d has no time", errCorrupt, i)
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return fmt.Errorf("%w: event %d is cut off", errCorrupt, i)
		}
		yield(Position{Timestamp: d.min + int64(delta), Seq: d.seq + uint64(i)}, b[n:n+int(size)])
		b = b[n+int(size):]
	}
	if len(b) != 0 {
		return fmt.Errorf("%w: %d bytes after the last event", errCorrupt, len(b))
	}
	return nil
}

// fileID names a generation of a segment: compaction writes the next one.
type fileID struct {
	number     uint64
	generation uint32
}

func (id fileID) log() string   { return fmt.Sprintf("%016x-%08x.log", id.number, id.generation) }
func (id fileID) index() string { return fmt.Sprintf("%016x-%08x.idx", id.number, id.generation) }

// origin is what the header of a segment file says.
type origin struct {
	id     fileID
	covers uint64 // the last segment number that went into it
	salt   uint64
}

func (o origin) append(dst []byte) []byte {
	start := len(dst)
	le := binary.LittleEndian
	dst = append(dst, segmentMagic...)
	dst = le.AppendUint64(dst, o.id.number)
	dst = le.AppendUint64(dst, o.covers)
	dst = le.AppendUint64(dst, o.salt)
	dst = le.AppendUint32(dst, o.id.generation)
	return le.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli()))
}

// parseOrigin checks a header against the name of the file.
func parseOrigin(b []byte, id fileID) (origin, error) {
	le := binary.LittleEndian
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic {
		return origin{}, fmt.Errorf("%s is no segment", id.log())
	}
	if le.Uint32(b[36:]) != crc32.Checksum(b[:36], castagnoli()) {
		return origin{}, fmt.Errorf("%s has a corrupt header", id.log())
	}
	o := origin{id: fileID{le.Uint64(b[8:]), le.Uint32(b[32:])}, covers: le.Uint64(b[16:]), salt: le.Uint64(b[24:])}
	if o.id != id || o.covers < id.number {
		return origin{}, fmt.Errorf("%s is another segment by its header", id.log())
	}
	return o, nil
}
