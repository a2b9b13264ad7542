package telemetry

import (
	"bytes"
	"encoding/binary"
	"time"
	"unicode/utf8"
)

// Managed runtimes write their log to a descriptor of its own, in frames
// (section 10 of the specification), so that a message may hold line feeds and
// carries its level and time:
//
//	type uint32 | length uint32 | microseconds since 1970 uint64 | message
//
// all big-endian. The type is the magic 0xa55a00, then a byte of which the low
// two bits say text (3) or JSON (2) and the others the level, 0 for none.

// MaxEvent is the longest event of a log in bytes: CloudWatch's 256 KiB with
// its own 26 bytes for each. What is longer is cut.
const MaxEvent = 256<<10 - 26

const (
	frameHeader = 16
	frameText   = 3
	frameJSON   = 2
	// maxFrame is the longest message that a header may announce in bytes; one
	// that says more is taken for a part of a message whose header was lost.
	maxFrame = 64 << 20
	// keptBuffer is the largest buffer in bytes that is kept between messages.
	keptBuffer = 16 << 10
	// lastMicro is the end of the year 9999, after which times have no text.
	lastMicro = 253402300799999999
)

// frameMagic begins every header.
func frameMagic() [3]byte { return [3]byte{0xa5, 0x5a, 0x00} }

// Frame is a message of the framed log, or a part of one over MaxEvent.
type Frame struct {
	Level string    // "TRACE" to "FATAL", or "" when it has none
	JSON  bool      // the runtime says that Text is JSON
	Time  time.Time // of writing; zero when it is unknown
	Text  []byte    // without the line feed at its end; valid during the call only
	Open  bool      // the message had no line feed at its end
}

// Frames decodes the framed log as it comes out of a pipe, in whatever pieces.
// What is not a frame is passed on line by line, as frames without level and
// time, up to the next header. It holds MaxEvent bytes and a header at most.
// The zero value is ready for use; not safe for concurrent use.
type Frames struct {
	inside bool  // a header was read, and its message is not complete
	frame  Frame // that is being read; its Text is unused
	left   int   // bytes of its message still to come
	cut    bool  // a part of it was passed on already

	held []byte // what was read of the message, or of a line and a header
	// seen is how much of held, outside of a frame, is known to have neither
	// a line feed nor the beginning of a header.
	seen int
}

// Write decodes p, and calls each for every message that is complete.
func (f *Frames) Write(p []byte, each func(Frame)) {
	for len(p) > 0 {
		if f.inside {
			p = f.message(p, each)
		} else {
			p = f.between(p, each)
		}
	}
}

// Flush passes on what is held: the pipe has ended.
func (f *Frames) Flush(each func(Frame)) {
	if len(f.held) > 0 {
		f.pass(f.held, true, each)
	}
	*f = Frames{held: f.held[:0]}
}

// message reads on in a frame and returns the rest of p.
func (f *Frames) message(p []byte, each func(Frame)) []byte {
	n := min(f.left, len(p))
	if len(f.held) == 0 && n == f.left && n <= MaxEvent {
		f.pass(p[:n], true, each) // all of it lies in p
		return p[n:]
	}
	n = min(n, MaxEvent-len(f.held))
	f.held = append(f.held, p[:n]...)
	f.left -= n
	if f.left == 0 {
		f.pass(f.held, true, each)
	} else if len(f.held) == MaxEvent {
		f.passPart(each)
	}
	return p[n:]
}

// pass hands text on; last ends the frame.
func (f *Frames) pass(text []byte, last bool, each func(Frame)) {
	out := f.frame
	out.Text = text
	if last {
		out.Text = bytes.TrimSuffix(text, []byte{'\n'})
		out.Open = f.inside && len(out.Text) == len(text)
	}
	f.emit(out, each)
	f.cut = !last
	if !last {
		return
	}
	f.inside, f.frame, f.left, f.held, f.seen = false, Frame{}, 0, f.held[:0], 0
	f.shrink()
}

func (f *Frames) shrink() {
	if len(f.held) == 0 && cap(f.held) > keptBuffer {
		f.held = nil
	}
}

// emit leaves out the empty end of what was passed on in parts.
func (f *Frames) emit(out Frame, each func(Frame)) {
	if len(out.Text) > 0 || !f.cut {
		each(out)
	}
}

// passPart hands on MaxEvent bytes of what is longer, less those of a character
// that does not end there.
func (f *Frames) passPart(each func(Frame)) {
	n := wholeRunes(f.held[:MaxEvent])
	f.pass(f.held[:n], false, each)
	f.held = f.held[:copy(f.held, f.held[n:])]
	f.seen = max(0, f.seen-n)
}

// wholeRunes is the length of text without a character that is cut at its end.
func wholeRunes(text []byte) int {
	for i := len(text) - 1; i >= max(0, len(text)-utf8.UTFMax); i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}

// between reads a header, and whatever is before it, and returns the rest of p.
func (f *Frames) between(p []byte, each func(Frame)) []byte {
	if len(f.held) == 0 && len(p) >= frameHeader && mayBegin(p) {
		f.begin(p[:frameHeader], each)
		return p[frameHeader:]
	}
	before := len(f.held)
	n := min(len(p), MaxEvent+frameHeader-before)
	f.held = append(f.held, p[:n]...)
	at := headerIn(f.held, f.seen)
	if len(f.held)-at < frameHeader {
		f.lines(at, each)
		return p[n:]
	}
	header := [frameHeader]byte(f.held[at:])
	n = at + frameHeader - before // it ends in p, or it would have been found before
	f.held = f.held[:at]
	f.lines(at, each)
	if len(f.held) > 0 {
		f.pass(f.held, true, each) // a line without an end
	}
	f.begin(header[:], each)
	return p[n:]
}

// lines passes on the lines that end before at, from where on held may be a
// header, and at most MaxEvent bytes of one that does not end.
func (f *Frames) lines(at int, each func(Frame)) {
	begin := 0
	for {
		n := bytes.IndexByte(f.held[f.seen:at], '\n')
		if n < 0 {
			break
		}
		end := f.seen + n + 1
		for end-1-begin > MaxEvent {
			part := f.held[begin : begin+wholeRunes(f.held[begin:begin+MaxEvent])]
			f.pass(part, false, each)
			begin += len(part)
		}
		f.emit(Frame{Text: f.held[begin : end-1]}, each)
		begin, f.seen, f.cut = end, end, false
	}
	f.held = f.held[:copy(f.held, f.held[begin:])]
	f.seen = at - begin
	if f.seen >= MaxEvent {
		f.passPart(each)
	}
	f.shrink()
}

// begin reads a header.
func (f *Frames) begin(header []byte, each func(Frame)) {
	kind := header[3]
	f.inside, f.held, f.seen, f.cut = true, f.held[:0], 0, false
	f.frame = Frame{Level: levelName(level(kind >> 2)), JSON: kind&3 == frameJSON}
	f.left = int(binary.BigEndian.Uint32(header[4:]))
	if micro := binary.BigEndian.Uint64(header[8:]); micro > 0 && micro <= lastMicro {
		f.frame.Time = time.UnixMicro(int64(micro))
	}
	if f.left == 0 {
		f.pass(nil, true, each)
	}
}

// headerIn is where in held, from seen on, the first header begins, be it only
// in part; or the length of held.
func headerIn(held []byte, seen int) int {
	first := frameMagic()[0]
	for at := seen; at < len(held); at++ {
		n := bytes.IndexByte(held[at:], first)
		if n < 0 {
			break
		}
		at += n
		if mayBegin(held[at:]) {
			return at
		}
	}
	return len(held)
}

// mayBegin says whether p begins with a header as far as it goes.
func mayBegin(p []byte) bool {
	magic := frameMagic()
	if n := min(len(p), len(magic)); !bytes.Equal(p[:n], magic[:n]) {
		return false
	}
	if len(p) > 3 {
		if form := p[3] & 3; form != frameText && form != frameJSON || level(p[3]>>2) > levelFatal {
			return false
		}
	}
	return len(p) < 8 || binary.BigEndian.Uint32(p[4:]) <= maxFrame
}
