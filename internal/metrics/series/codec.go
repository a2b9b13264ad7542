package series

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
)

// The encoding of keys and points, in journals and blocks. Numbers are
// varints, floats eight bytes, all little-endian; strings carry their length.
//
//	key    namespace name unit n (name value)*
//	point  form count [sum min max] [distribution]
//	sample flags time key point

// errCorrupt: the bytes are not what was written.
var errCorrupt = errors.New("series: corrupt data")

// Forms of a point.
const (
	formSet     = 0 // count, sum, min, max
	formSingle  = 1 // count, value: all samples are equal
	formExact   = 2 // the set, then values and counts
	formBuckets = 3 // the set, then indexes and counts
)

// metricID identifies a metric without its unit; id the series. They are the
// first bytes of a SHA-256, so that nobody comes upon a collision.
func metricID(k *Key) uint64 {
	sum := sha256.Sum256(appendKey(nil, &Key{Namespace: k.Namespace, Name: k.Name, Dimensions: k.Dimensions}))
	return binary.LittleEndian.Uint64(sum[:])
}

func seriesID(metric uint64, unit string) uint64 {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 40), metric)
	sum := sha256.Sum256(append(b, unit...))
	return binary.LittleEndian.Uint64(sum[:])
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFloat(b []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
}

// appendCount writes a count, which is nearly always a small whole number.
func appendCount(b []byte, n float64) []byte {
	if n >= 0 && n < 1<<53 && n == math.Trunc(n) {
		return binary.AppendUvarint(b, uint64(n)<<1)
	}
	return appendFloat(append(b, 1), n)
}

func appendKey(b []byte, k *Key) []byte {
	b = appendString(appendString(appendString(b, k.Namespace), k.Name), k.Unit)
	b = binary.AppendUvarint(b, uint64(len(k.Dimensions)))
	for _, d := range k.Dimensions {
		b = appendString(appendString(b, d.Name), d.Value)
	}
	return b
}

func appendPoint(b []byte, p *Point) []byte {
	set := func(form byte) []byte {
		b = appendCount(append(b, form), p.Count)
		return appendFloat(appendFloat(appendFloat(b, p.Sum), p.Min), p.Max)
	}
	switch {
	case p.Dist == nil:
		return set(formSet)
	case len(p.Dist.pairs) == 1 && !p.Dist.buckets:
		return appendFloat(appendCount(append(b, formSingle), p.Count), p.Dist.pairs[0].v)
	case !p.Dist.buckets:
		b = binary.AppendUvarint(set(formExact), uint64(len(p.Dist.pairs)))
		for _, q := range p.Dist.pairs {
			b = appendCount(appendFloat(b, q.v), q.n)
		}
		return b
	}
	b = set(formBuckets)
	pairs, zero := p.Dist.pairs, 0.0
	if len(pairs) > 0 && pairs[0].v == 0 {
		zero, pairs = pairs[0].n, pairs[1:]
	}
	b = binary.AppendUvarint(appendCount(b, zero), uint64(len(pairs)))
	last := 0
	for _, q := range pairs {
		i := indexOf(q.v)
		b = appendCount(binary.AppendVarint(b, int64(i-last)), q.n)
		last = i
	}
	return b
}

// indexOf is the bucket that valueAt gave v for.
func indexOf(v float64) int {
	return int(math.Round(math.Log(v*(1+gamma)/2) / logGamma))
}

func appendSample(b []byte, s *Sample) []byte {
	flags := byte(0)
	if s.HighResolution {
		flags = 1
	}
	b = binary.AppendVarint(append(b, flags), s.Time.Unix())
	return appendPoint(appendKey(b, &s.Key), &s.Point)
}

// reader decodes. After the first error everything is zero and err says so.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	r.b, r.err = nil, errCorrupt
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) float() float64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(r.b))
	r.b = r.b[8:]
	return v
}

func (r *reader) count() float64 {
	v := r.uvarint()
	if v == 1 {
		return r.float()
	}
	return float64(v >> 1)
}

// length reads a number of things that take at least size bytes each.
func (r *reader) length(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) string() string {
	n := r.length(1)
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) key() Key {
	k := Key{Namespace: r.string(), Name: r.string(), Unit: r.string()}
	if n := r.length(2); n > 0 {
		k.Dimensions = make([]Dimension, n)
		for i := range k.Dimensions {
			k.Dimensions[i] = Dimension{r.string(), r.string()}
		}
	}
	return k
}

func (r *reader) point() Point {
	form := r.byte()
	p := Point{Count: r.count()}
	if form == formSingle {
		if v := r.float(); r.err == nil {
			return PointOf(v, p.Count)
		}
		return Point{}
	}
	p.Sum, p.Min, p.Max = r.float(), r.float(), r.float()
	switch form {
	case formSet:
		return p
	case formExact:
		p.Dist = &Sketch{pairs: make([]pair, r.length(9))}
		for i := range p.Dist.pairs {
			p.Dist.pairs[i] = pair{r.float(), r.count()}
		}
	case formBuckets:
		p.Dist = r.buckets()
	default:
		r.fail()
	}
	if r.err != nil {
		return Point{}
	}
	return p
}

func (r *reader) buckets() *Sketch {
	s := &Sketch{buckets: true}
	zero := r.count()
	n := r.length(2)
	s.pairs = make([]pair, 0, n+1)
	if zero > 0 {
		s.pairs = append(s.pairs, pair{0, zero})
	}
	last := 0
	for range n {
		last += int(r.varint())
		s.pairs = append(s.pairs, pair{valueAt(last), r.count()})
	}
	return s
}

func (r *reader) sample() Sample {
	flags := r.byte()
	t := r.varint()
	s := Sample{HighResolution: flags&1 != 0, Key: r.key(), Point: r.point()}
	s.Time = unix(t)
	return s
}
