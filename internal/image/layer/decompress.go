package layer

import (
	"bufio"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is how a tar archive is compressed.
type Compression int

// The compressions that layers come in.
const (
	Plain Compression = iota
	Gzip
	Zstd
)

// maxWindow bounds the memory that a zstd stream may demand of its reader:
// what the highest level without --long asks for.
const maxWindow = 128 << 20

// Detect tells the compression from the first four bytes. Media types say it
// too, and are wrong often enough.
func Detect(head []byte) Compression {
	switch string(head[:min(4, len(head))]) {
	case "\x28\xb5\x2f\xfd":
		return Zstd
	default:
		if len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b {
			return Gzip
		}
	}
	return Plain
}

// Decompress reads a stream in whatever compression it comes. Closing it does
// not close r.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 128<<10)
	head, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch Detect(head) {
	case Gzip:
		return gzip.NewReader(buffered)
	case Zstd:
		d, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}

// readAhead reads a stream on another goroutine, so that decompressing and
// writing to the disk go on side by side: half the time of an image of one
// layer.
type readAhead struct {
	full  chan chunk
	empty chan []byte
	stop  chan struct{}
	done  sync.WaitGroup

	now  []byte // what is left of buf
	buf  []byte
	err  error
	once sync.Once
}

type chunk struct {
	data []byte
	err  error
}

const (
	aheadChunk  = 512 << 10
	aheadChunks = 4
)

func newReadAhead(r io.Reader) *readAhead {
	a := &readAhead{full: make(chan chunk, aheadChunks), empty: make(chan []byte, aheadChunks), stop: make(chan struct{})}
	for range aheadChunks {
		a.empty <- make([]byte, aheadChunk)
	}
	a.done.Go(func() { a.fill(r) })
	return a
}

func (a *readAhead) fill(r io.Reader) {
	for {
		var buf []byte
		select {
		case buf = <-a.empty:
		case <-a.stop:
			return
		}
		n := 0
		var err error
		for n < len(buf) && err == nil {
			var more int
			more, err = r.Read(buf[n:])
			n += more
		}
		// As many chunks as full has room for: this never blocks.
		a.full <- chunk{buf[:n], err}
		if err != nil {
			return
		}
	}
}

// Read returns what was read ahead.
func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.now) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.buf != nil {
			a.empty <- a.buf[:aheadChunk]
			a.buf = nil
		}
		c := <-a.full
		a.now, a.buf, a.err = c.data, c.data, c.err
	}
	n := copy(p, a.now)
	a.now = a.now[n:]
	return n, nil
}

// Close ends the reading and waits for it.
func (a *readAhead) Close() error {
	a.once.Do(func() { close(a.stop) })
	a.done.Wait()
	return nil
}
