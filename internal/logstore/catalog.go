package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// The catalog is a journal of groups and streams, each record
//
//	crc[4] length[4] kind[1] fields
//
// where a number is a varint and a name is its length and its bytes. A torn
// end is cut off when it is opened. It is written anew, as a snapshot, when
// more than half of it is out of date.
type recordKind byte

const (
	recGroup       recordKind = 1 // id, created, name
	recStream      recordKind = 2 // id, group id, created, automatic (0 or 1), name
	recDropGroup   recordKind = 3 // id: with all its streams
	recDropStream  recordKind = 4 // id
	recHorizon     recordKind = 5 // group id, time
	recNext        recordKind = 6 // least id not yet used, least sequence number
	catalogName               = "catalog"
	catalogHeader             = 8
	maxCatalogBody            = MaxName + 64
)

// record is one entry of the catalog; which fields count depends on the kind.
type record struct {
	kind  recordKind
	id    uint64
	group uint64
	when  int64
	auto  bool
	name  string
	seq   uint64
}

func (r record) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, catalogHeader)...)
	dst = append(dst, byte(r.kind))
	dst = binary.AppendUvarint(dst, r.id)
	switch r.kind {
	case recGroup:
		dst = appendName(binary.AppendVarint(dst, r.when), r.name)
	case recStream:
		dst = binary.AppendVarint(binary.AppendUvarint(dst, r.group), r.when)
		auto := byte(0)
		if r.auto {
			auto = 1
		}
		dst = appendName(append(dst, auto), r.name)
	case recHorizon:
		dst = binary.AppendVarint(dst, r.when)
	case recNext:
		dst = binary.AppendUvarint(dst, r.seq)
	}
	b := dst[start:]
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-catalogHeader))
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli()))
	return dst
}

func appendName(dst []byte, name string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(name))), name...)
}

// fields reads what record.append wrote; the first failure sticks.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.bad = true
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.b)
	if n <= 0 {
		f.bad = true
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) bytes(n uint64) []byte {
	if n > uint64(len(f.b)) {
		f.bad = true
		return nil
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

// parseRecord reads the record at the front of b and tells its length.
func parseRecord(b []byte) (record, int, error) {
	if len(b) < catalogHeader {
		return record{}, 0, fmt.Errorf("%w: catalog ends in a header", errCorrupt)
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n == 0 || n > maxCatalogBody || int(n) > len(b)-catalogHeader {
		return record{}, 0, fmt.Errorf("%w: catalog record of %d bytes", errCorrupt, n)
	}
	end := catalogHeader + int(n)
	if binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:end], castagnoli()) {
		return record{}, 0, fmt.Errorf("%w: wrong checksum in the catalog", errCorrupt)
	}
	f := &fields{b: b[catalogHeader+1 : end]}
	r := record{kind: recordKind(b[catalogHeader]), id: f.uvarint()}
	switch r.kind {
	case recGroup:
		r.when = f.varint()
		r.name = string(f.bytes(f.uvarint()))
	case recStream:
		r.group, r.when = f.uvarint(), f.varint()
		auto := f.bytes(1)
		r.auto = len(auto) == 1 && auto[0] == 1
		r.name = string(f.bytes(f.uvarint()))
	case recDropGroup, recDropStream:
	case recHorizon:
		r.when = f.varint()
	case recNext:
		r.seq = f.uvarint()
	default:
		f.bad = true
	}
	if f.bad || len(f.b) != 0 {
		return record{}, 0, fmt.Errorf("%w: catalog record of kind %d", errCorrupt, r.kind)
	}
	return r, end, nil
}

// catalog is the journal's file. The store's write lock guards it, and the
// sync lock too where it is replaced.
type catalog struct {
	dir   string
	file  *os.File
	size  atomic.Int64 // Stats reads it without a lock
	live  int64        // about what a snapshot would take
	dirty bool         // something is not synced
	// broken: what the file holds after size is not known, or what was
	// written to it may not be there. Only a snapshot repairs that.
	broken bool
}

// openCatalog opens or makes the journal and hands over its records.
func openCatalog(dir string, each func(record)) (*catalog, error) {
	name := filepath.Join(dir, catalogName)
	if err := os.Remove(name + ".tmp"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	c := &catalog{dir: dir, file: f}
	b, err := os.ReadFile(name)
	size := 0
	for err == nil && size < len(b) {
		r, n, bad := parseRecord(b[size:])
		if bad != nil {
			break // a torn end
		}
		each(r)
		size += n
	}
	if err == nil && size < len(b) {
		err = f.Truncate(int64(size))
	}
	c.size.Store(int64(size))
	if err == nil {
		err = f.Sync() // what was read is going to be relied on
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

// append writes records, or nothing.
func (c *catalog) append(records ...record) error {
	if c.broken {
		return errors.New("the catalog is being repaired")
	}
	var buf []byte
	for _, r := range records {
		buf = r.append(buf)
	}
	size := c.size.Load()
	if _, err := c.file.WriteAt(buf, size); err != nil {
		c.broken = c.file.Truncate(size) != nil
		return err
	}
	c.size.Store(size + int64(len(buf)))
	c.dirty = true
	return nil
}

// replace makes a snapshot the catalog, durably.
func (c *catalog) replace(snapshot []byte) error {
	name := filepath.Join(c.dir, catalogName)
	f, err := os.OpenFile(name+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(snapshot)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(name+".tmp", name)
	}
	if err != nil {
		f.Close()
		os.Remove(name + ".tmp")
		return err
	}
	if err := syncDir(c.dir); err != nil {
		// It is not known which of the two the disk has under the name; the
		// next snapshot settles it.
		f.Close()
		c.broken = true
		return err
	}
	c.file.Close()
	c.file, c.live, c.dirty, c.broken = f, int64(len(snapshot)), false, false
	c.size.Store(c.live)
	return nil
}

// stale reports whether a snapshot is worth its while.
func (c *catalog) stale() bool {
	return c.broken || c.size.Load() > max(64<<10, 2*c.live)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error { return syncFile(dir) }
