package awswire

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/firn-run/firn"
)

// Bodies of CBOR, and forms that have been given types, are trees in memory.
// This file fills structures from trees, with the same checks as for JSON.

// cbor reads the members of p in a body of CBOR.
func (d *decoder) cbor(p *plan, v reflect.Value, body []byte) error {
	if len(body) == 0 || len(p.byName) == 0 {
		return d.treeStruct(p, v, cbor.Map{})
	}
	if cborItems(body) > maxValues {
		return tooManyValues()
	}
	tree, err := cbor.Decode(body)
	if err != nil {
		return firn.Faultf(firn.Serialization, "Could not parse request body into CBOR: %s", err)
	}
	m, ok := tree.(cbor.Map)
	if !ok {
		return wrongTree(tree, "structure")
	}
	return d.treeStruct(p, v, m)
}

// treeStruct reads the members of a structure.
func (d *decoder) treeStruct(p *plan, v reflect.Value, m cbor.Map) error {
	for i := range p.fields {
		f := &p.fields[i]
		if f.place != inBody {
			continue
		}
		item := m[f.wire]
		if nullTree(item) {
			if f.required {
				d.missing(f.path)
			}
			continue
		}
		d.push(f.path)
		err := d.tree(f.plan, v.Field(f.index), item, f.semantic)
		d.pop()
		if err != nil {
			return err
		}
	}
	return nil
}

// nullTree reports a value that is not there.
func nullTree(n cbor.Value) bool {
	switch n.(type) {
	case nil, *cbor.Nil, *cbor.Undefined:
		return true
	}
	return false
}

// tree reads one value, which is not null, into v.
func (d *decoder) tree(p *plan, v reflect.Value, n cbor.Value, semantic bool) error {
	v = settable(p, v)
	switch p.kind {
	case kindStruct:
		if p.elem != nil {
			p = p.elem
		}
		m, ok := n.(cbor.Map)
		if !ok {
			return wrongTree(n, "structure")
		}
		return d.treeStruct(p, v, m)
	case kindUnion:
		return d.treeUnion(p, v, n)
	case kindList:
		return d.treeList(p, v, n)
	case kindMap:
		return d.treeMap(p, v, n)
	case kindString:
		s, ok := n.(cbor.String)
		if !ok || !utf8.ValidString(string(s)) {
			return wrongTree(n, "String")
		}
		d.checkText(p, semantic, string(s))
		v.SetString(string(s))
	case kindBool:
		b, ok := n.(cbor.Bool)
		if !ok {
			return wrongTree(n, "Boolean")
		}
		v.SetBool(bool(b))
	case kindBlob:
		b, ok := n.(cbor.Slice)
		if !ok {
			return wrongTree(n, "ByteBuffer")
		}
		d.blob(p, b)
		v.SetBytes(b)
	case kindTime:
		t, err := treeTime(n)
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(t))
	default:
		return d.treeNumber(p, v, n)
	}
	return nil
}

// treeNumber reads a number of p's kind.
func (d *decoder) treeNumber(p *plan, v reflect.Value, n cbor.Value) error {
	if p.kind == kindDouble {
		f, err := treeFloat(n)
		if err != nil {
			return wrongTree(n, p.kind.java())
		}
		d.checkNumber(p, f, strconv.FormatFloat(f, 'g', -1, 64))
		v.SetFloat(f)
		return nil
	}
	i, err := cbor.AsInt64(n)
	if err != nil {
		// A whole number may come as a float.
		f, ferr := treeFloat(n)
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return wrongTree(n, p.kind.java())
		}
		i = int64(f)
	}
	if p.kind == kindInteger && int64(int32(i)) != i {
		return wrongTree(n, p.kind.java())
	}
	d.checkNumber(p, float64(i), strconv.FormatInt(i, 10))
	v.SetInt(i)
	return nil
}

// treeFloat reads any number as a float.
func treeFloat(n cbor.Value) (float64, error) {
	switch x := n.(type) {
	case cbor.Uint:
		return float64(x), nil
	case cbor.NegInt:
		return -float64(x), nil
	}
	return cbor.AsFloat64(n)
}

// Times beyond these years cannot be written again.
const (
	minSeconds = -62135596800 // year 1
	maxSeconds = 253402300799 // year 9999
)

// treeTime reads tag 1: seconds since 1970, kept to milliseconds. A number
// without a tag is accepted.
func treeTime(n cbor.Value) (time.Time, error) {
	if tag, ok := n.(*cbor.Tag); ok && tag.ID == 1 {
		n = tag.Value
	}
	seconds, err := treeFloat(n)
	if err != nil || !(seconds >= minSeconds && seconds <= maxSeconds) {
		return time.Time{}, wrongTree(n, "Date")
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), nil
}

// treeUnion reads the map of a union.
func (d *decoder) treeUnion(p *plan, v reflect.Value, n cbor.Value) error {
	m, ok := n.(cbor.Map)
	if !ok {
		return wrongTree(n, "structure")
	}
	count := 0
	for name, item := range m {
		if nullTree(item) {
			continue
		}
		if count++; count > 1 {
			break
		}
		f := p.byName[name]
		if f == nil {
			continue
		}
		d.push(f.path)
		err := d.tree(f.plan, f.choose(v), item, false)
		d.pop()
		if err != nil {
			return err
		}
	}
	return oneMember(p, v, count)
}

// treeList reads a list.
func (d *decoder) treeList(p *plan, v reflect.Value, n cbor.Value) error {
	list, ok := n.(cbor.List)
	if !ok {
		return wrongTree(n, "list")
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, len(list)))
	var shown []string
	nulls := 0
	for i, item := range list {
		if nullTree(item) {
			nulls++
			continue
		}
		v.SetLen(v.Len() + 1)
		target := v.Index(v.Len() - 1)
		if s, ok := item.(cbor.String); ok && p.elem.kind == kindString && !p.elem.pointer && utf8.ValidString(string(s)) {
			target.SetString(string(s))
			shown = append(shown, string(s))
			continue
		}
		d.push(strconv.Itoa(i+1) + ".member")
		err := d.tree(p.elem, target, item, false)
		d.pop()
		if err != nil {
			return err
		}
	}
	d.list(p, shown, slices.Repeat([]string{"null"}, nulls), len(list))
	return nil
}

// treeMap reads a map.
func (d *decoder) treeMap(p *plan, v reflect.Value, n cbor.Value) error {
	m, ok := n.(cbor.Map)
	if !ok {
		return wrongTree(n, "map")
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(m)))
	nulls := 0
	for key, item := range m {
		if nullTree(item) {
			nulls++
			continue
		}
		if !utf8.ValidString(key) {
			return wrongTree(cbor.String(""), "String")
		}
		target := reflect.New(v.Type().Elem()).Elem()
		if s, ok := item.(cbor.String); ok && p.elem.kind == kindString && !p.elem.pointer && utf8.ValidString(string(s)) {
			target.SetString(string(s)) // checked with the map as a whole
		} else {
			d.push(key + ".member")
			err := d.tree(p.elem, target, item, false)
			d.pop()
			if err != nil {
				return err
			}
		}
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), target)
	}
	d.entries(p, v, nulls)
	return nil
}

// wrongTree is the answer to a value of another type.
func wrongTree(found cbor.Value, wanted string) error {
	name := "value"
	switch found.(type) {
	case cbor.Map:
		name = "map"
	case cbor.List:
		name = "list"
	case cbor.String:
		name = "string"
	case cbor.Slice:
		name = "byte string"
	case cbor.Uint, cbor.NegInt, cbor.Float32, cbor.Float64:
		name = "number"
	case cbor.Bool:
		name = "boolean"
	case *cbor.Tag:
		name = "tag"
	}
	return wrongType(fmt.Sprintf("A %s", name), wanted)
}
