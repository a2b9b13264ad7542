package awswire

import (
	"math"
	"reflect"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

// cborStruct renders the members of v, a structure of p.
func cborStruct(p *plan, v reflect.Value) cbor.Map {
	m := make(cbor.Map, len(p.fields))
	for i := range p.fields {
		f := &p.fields[i]
		if f.place == inBody && !absent(f.plan, v.Field(f.index)) {
			m[f.wire] = cborValue(f.plan, v.Field(f.index))
		}
	}
	return m
}

// cborValue renders v, which is not absent.
func cborValue(p *plan, v reflect.Value) cbor.Value {
	if p.pointer {
		v = v.Elem()
		if p.kind == kindStruct {
			p = p.elem
		}
	}
	switch p.kind {
	case kindString:
		return cbor.String(v.String())
	case kindInteger, kindLong:
		if n := v.Int(); n < 0 {
			return cbor.NegInt(-n)
		}
		return cbor.Uint(v.Int())
	case kindDouble:
		return cbor.Float64(v.Float())
	case kindBool:
		return cbor.Bool(v.Bool())
	case kindBlob:
		return cbor.Slice(v.Bytes())
	case kindTime:
		return cborTime(v.Interface().(time.Time))
	case kindList:
		list := make(cbor.List, v.Len())
		for i := range list {
			list[i] = cborItem(p.elem, v.Index(i))
		}
		return list
	case kindMap:
		m := make(cbor.Map, v.Len())
		for it := v.MapRange(); it.Next(); {
			m[it.Key().String()] = cborItem(p.elem, it.Value())
		}
		return m
	case kindStruct:
		return cborStruct(p, v)
	case kindUnion:
		if f, member := p.chosen(v); f != nil {
			return cbor.Map{f.wire: cborValue(f.plan, member)}
		}
		return &cbor.Nil{}
	}
	panic("awswire: a kind of value that the codec does not know in " + p.shape)
}

// cborItem renders an item of a list or map, where nil is null.
func cborItem(p *plan, v reflect.Value) cbor.Value {
	if v.Kind() != reflect.String && absent(p, v) {
		return &cbor.Nil{}
	}
	return cborValue(p, v)
}

// cborTime is a time as tag 1: whole seconds as an integer, which older
// clients read without loss, others as a float of milliseconds.
func cborTime(t time.Time) cbor.Value {
	ms := t.UnixMilli()
	if ms%1000 != 0 {
		return &cbor.Tag{ID: 1, Value: cbor.Float64(float64(ms) / 1000)}
	}
	seconds := ms / 1000
	if seconds < 0 {
		return &cbor.Tag{ID: 1, Value: cbor.NegInt(-seconds)}
	}
	return &cbor.Tag{ID: 1, Value: cbor.Uint(seconds)}
}

// maxValues bounds the values of a request: 1,000 metrics of 150 values with
// their counts are 310,000.
const maxValues = 500_000

// cborItems counts the heads in a body of CBOR, which are at least as many as
// its values, before anything is allocated for them. It goes no further than
// maxValues, and stops where the body is broken, as the decoder will.
func cborItems(b []byte) int {
	const indefinite = 31
	n := 0
	for len(b) > 0 && n <= maxValues {
		n++
		major, minor := b[0]>>5, b[0]&31
		b = b[1:]
		size := 0
		switch {
		case minor >= 24 && minor <= 27:
			size = 1 << (minor - 24)
		case minor > 27 && minor < indefinite:
			return n
		}
		if size > len(b) {
			return n
		}
		argument := uint64(minor)
		if size > 0 {
			argument = 0
			for _, c := range b[:size] {
				argument = argument<<8 | uint64(c)
			}
		}
		b = b[size:]
		if (major == 2 || major == 3) && minor != indefinite {
			if argument > uint64(min(len(b), math.MaxInt)) {
				return n
			}
			b = b[argument:]
		}
	}
	return n
}
