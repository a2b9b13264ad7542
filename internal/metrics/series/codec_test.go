package series

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawPoint makes points of all forms.
func drawPoint(t *rapid.T) Point {
	if rapid.Bool().Draw(t, "set") {
		return SetOf(rapid.Float64Range(0.1, 1e9).Draw(t, "count"), 1, rapid.Float64().Draw(t, "min"), rapid.Float64().Draw(t, "max"))
	}
	var p Point
	n := rapid.SampledFrom([]int{1, 2, 100, 151, 3000}).Draw(t, "n")
	for i := range n {
		p.Observe(float64(i*i)*rapid.SampledFrom([]float64{0, 1e-9, 1, 1e6}).Draw(t, "scale"), rapid.SampledFrom([]float64{1, 2, 0.5}).Draw(t, "count"))
	}
	return p
}

func TestSamplesSurviveTheCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dims := []Dimension{}
		for i := range rapid.IntRange(0, 3).Draw(t, "dims") {
			dims = append(dims, Dimension{string(rune('a' + i)), rapid.String().Draw(t, "value")})
		}
		want := Sample{
			Key:            NewKey(rapid.String().Draw(t, "ns"), rapid.String().Draw(t, "name"), dims, rapid.SampledFrom([]string{"", "Count"}).Draw(t, "unit")),
			Time:           time.Unix(rapid.Int64Range(-1e9, 4e9).Draw(t, "t"), 0).UTC(),
			Point:          drawPoint(t),
			HighResolution: rapid.Bool().Draw(t, "high"),
		}
		if len(dims) == 0 {
			want.Key.Dimensions = nil
		}
		b := appendSample(nil, &want)
		r := reader{b: b}
		got := r.sample()
		if r.err != nil || len(r.b) != 0 {
			t.Fatalf("%v, %d bytes remain", r.err, len(r.b))
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(Sketch{}, pair{})); d != "" {
			t.Fatal(d)
		}
		for n := range min(len(b), 200) {
			short := reader{b: b[:n]}
			if short.sample(); short.err == nil {
				t.Fatalf("%d of %d bytes are a sample", n, len(b))
			}
		}
	})
}

func TestBucketsSurviveTheCodec(t *testing.T) {
	for i := -40_000; i < 40_000; i += 7 {
		v := valueAt(i)
		if v < smallest || math.IsInf(v, 0) {
			continue
		}
		if got := indexOf(v); got != i || valueAt(got) != v {
			t.Fatalf("bucket %d comes back as %d", i, got)
		}
	}
}

func FuzzReader(f *testing.F) {
	s := sampleAt("m", time.Unix(1e9, 0), 3)
	f.Add(appendSample(nil, &s))
	s.Point.Observe(5, 2)
	f.Add(appendSample(nil, &s))
	s.Point.Dist.toBuckets()
	f.Add(appendSample(nil, &s))
	f.Add([]byte{3, 255, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader{b: b}
		got := r.sample()
		if r.err != nil {
			return
		}
		again := reader{b: appendSample(nil, &got)}
		again.sample()
		if again.err != nil || len(again.b) != 0 {
			t.Errorf("what was read cannot be written and read: %v", again.err)
		}
	})
}

func FuzzReplay(f *testing.F) {
	s := sampleAt("m", time.Unix(1e9, 0), 3)
	f.Add(appendFrame(nil, appendSample(nil, &s)))
	f.Add(bytes.Repeat([]byte{0}, 20))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := t.TempDir() + "/journal-00000001"
		writeFile(t, path, b)
		n := 0
		if _, err := replay(path, func(Sample) { n++ }); err != nil {
			t.Fatal(err)
		}
		m := 0
		cut, err := replay(path, func(Sample) { m++ })
		if err != nil || cut != 0 || n != m {
			t.Errorf("the second time: %d bytes cut, %d samples after %d, %v", cut, m, n, err)
		}
	})
}
