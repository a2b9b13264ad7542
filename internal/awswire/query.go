package awswire

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire/form"
)

// form reads the members of p in a form: its texts are given the types of the
// members, and the tree is read as one of CBOR.
func (d *decoder) form(p *plan, v reflect.Value, root *form.Node) error {
	m, err := formStruct(p, root)
	if err != nil {
		return err
	}
	return d.treeStruct(p, v, m)
}

// formStruct gives types to the members of a structure or union.
func formStruct(p *plan, n *form.Node) (cbor.Map, error) {
	m := cbor.Map{}
	for name, f := range p.byName {
		kid := n.Kid(f.xml)
		if kid == nil {
			continue
		}
		value, err := formValue(f.plan, kid)
		if err != nil {
			return nil, err
		}
		m[name] = value
	}
	return m, nil
}

// formValue gives a node the type of p.
func formValue(p *plan, n *form.Node) (cbor.Value, error) {
	switch p.kind {
	case kindStruct:
		if p.elem != nil {
			p = p.elem
		}
		return formStruct(p, n)
	case kindUnion:
		return formStruct(p, n)
	case kindList:
		return formList(p, n)
	case kindMap:
		return formMap(p, n)
	}
	if !n.Has {
		return nil, firn.Faultf(firn.Serialization, "Unexpected complex element where a %s is expected", p.kind.java())
	}
	return formScalar(p, n.Value)
}

// formScalar gives a text the type of p.
func formScalar(p *plan, text string) (cbor.Value, error) {
	switch p.kind {
	case kindString:
		return cbor.String(strings.ToValidUTF8(text, "\uFFFD")), nil
	case kindBool:
		if b, err := strconv.ParseBool(strings.ToLower(text)); err == nil {
			return cbor.Bool(b), nil
		}
	case kindBlob:
		if b, err := base64.StdEncoding.DecodeString(text); err == nil {
			return cbor.Slice(b), nil
		}
	case kindTime:
		if t, err := formTime(text); err == nil {
			return &cbor.Tag{ID: 1, Value: cbor.Float64(float64(t.UnixMilli()) / 1000)}, nil
		}
	case kindDouble:
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return cbor.Float64(f), nil
		}
	default:
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			if i < 0 {
				return cbor.NegInt(-i), nil
			}
			return cbor.Uint(i), nil
		}
	}
	return nil, wrongType("STRING_VALUE", p.kind.java())
}

// formTime reads a time: date-time with or without a zone, or seconds since
// 1970.
func formTime(text string) (time.Time, error) {
	t, err := parseTime(text, "")
	if err != nil {
		// Times without a zone are UTC.
		t, err = time.Parse("2006-01-02T15:04:05", text)
	}
	return t, err
}

// formList reads X.member.1, X.member.2, or X.1 when the list is flattened. An
// empty text is an empty list.
func formList(p *plan, n *form.Node) (cbor.Value, error) {
	list := cbor.List{}
	items := n
	if !p.flat {
		items = n.Kid(p.item)
	}
	kids, err := numbered(items)
	if err != nil {
		return nil, err
	}
	for _, kid := range kids {
		value, err := formValue(p.elem, kid)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, nil
}

// formMap reads X.entry.1.key and X.entry.1.value, or X.1.key when the map is
// flattened.
func formMap(p *plan, n *form.Node) (cbor.Value, error) {
	m := cbor.Map{}
	entries := n
	if !p.flat {
		entries = n.Kid("entry")
	}
	kids, err := numbered(entries)
	if err != nil {
		return nil, err
	}
	for _, kid := range kids {
		if kid.Kid(p.valueName) == nil {
			continue
		}
		value, err := formValue(p.elem, kid.Kid(p.valueName))
		if err != nil {
			return nil, err
		}
		m[strings.ToValidUTF8(kid.Text(p.keyName), "\uFFFD")] = value
	}
	return m, nil
}

// numbered returns the nodes below n in the order of their numbers.
func numbered(n *form.Node) ([]*form.Node, error) {
	if n == nil {
		return nil, nil
	}
	byNumber := make(map[int]*form.Node, len(n.Kids))
	for name, kid := range n.Kids {
		i, err := strconv.Atoi(name)
		if err != nil || i < 0 {
			return nil, firn.Faultf(firn.Serialization, "Key %q of a list is not a number", name)
		}
		byNumber[i] = kid
	}
	kids := make([]*form.Node, 0, len(byNumber))
	for _, i := range slices.Sorted(maps.Keys(byNumber)) {
		kids = append(kids, byNumber[i])
	}
	return kids, nil
}

// answerXML is the body of an answer of the query protocol.
func (m *Mux) answerXML(r *Request, p *plan, v reflect.Value) []byte {
	x := &xmlWriter{}
	x.WriteString("<" + r.op.name + `Response xmlns="` + m.service.Namespace + `">`)
	if p.shape != "" {
		x.open(r.op.name + "Result")
		x.structure(p, v)
		x.close(r.op.name + "Result")
	}
	x.WriteString("<ResponseMetadata>")
	x.leaf("RequestId", r.ID)
	x.WriteString("</ResponseMetadata>")
	x.close(r.op.name + "Response")
	return x.Bytes()
}

// errorXML is the body of an error of the query protocol.
func (m *Mux) errorXML(r *Request, f *failure) []byte {
	x := &xmlWriter{}
	x.WriteString(`<ErrorResponse xmlns="` + m.service.Namespace + `"><Error>`)
	x.leaf("Type", f.side())
	x.leaf("Code", f.shape.code)
	x.leaf("Message", f.fault.Message)
	if f.plan != nil {
		for i := range f.plan.fields {
			if member := &f.plan.fields[i]; member.xml != "Message" {
				x.member(member, f.value)
			}
		}
	}
	x.WriteString("</Error>")
	x.leaf("RequestId", r.ID)
	x.close("ErrorResponse")
	return x.Bytes()
}

// xmlWriter renders values as the query protocol answers them.
type xmlWriter struct{ bytes.Buffer }

func (x *xmlWriter) open(name string)  { x.WriteString("<" + name + ">") }
func (x *xmlWriter) close(name string) { x.WriteString("</" + name + ">") }

// leaf renders an element with a text. Characters that XML cannot say become
// U+FFFD.
func (x *xmlWriter) leaf(name, text string) {
	x.open(name)
	_ = xml.EscapeText(&x.Buffer, []byte(text)) // a buffer does not fail
	x.close(name)
}

func (x *xmlWriter) structure(p *plan, v reflect.Value) {
	for i := range p.fields {
		x.member(&p.fields[i], v)
	}
}

// member renders one member of the structure v if it is there.
func (x *xmlWriter) member(f *field, v reflect.Value) {
	if v = v.Field(f.index); !absent(f.plan, v) {
		x.value(f.xml, f.plan, v)
	}
}

// value renders an element.
func (x *xmlWriter) value(name string, p *plan, v reflect.Value) {
	if p.pointer {
		if v = v.Elem(); p.kind == kindStruct {
			p = p.elem
		}
	}
	switch p.kind {
	case kindStruct:
		x.open(name)
		x.structure(p, v)
		x.close(name)
	case kindUnion:
		x.open(name)
		if f, member := p.chosen(v); f != nil {
			x.value(f.xml, f.plan, member)
		}
		x.close(name)
	case kindList:
		x.list(name, p, v)
	case kindMap:
		x.table(name, p, v)
	default:
		x.leaf(name, xmlText(p, v))
	}
}

func (x *xmlWriter) list(name string, p *plan, v reflect.Value) {
	item := p.item
	if p.flat {
		item = name
	} else {
		x.open(name)
		defer x.close(name)
	}
	for i := range v.Len() {
		x.value(item, p.elem, v.Index(i))
	}
}

func (x *xmlWriter) table(name string, p *plan, v reflect.Value) {
	entry := "entry"
	if p.flat {
		entry = name
	} else {
		x.open(name)
		defer x.close(name)
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		x.open(entry)
		x.leaf(p.keyName, key.String())
		x.value(p.valueName, p.elem, v.MapIndex(key))
		x.close(entry)
	}
}

// xmlText renders a scalar.
func xmlText(p *plan, v reflect.Value) string {
	switch p.kind {
	case kindString:
		return v.String()
	case kindBool:
		return strconv.FormatBool(v.Bool())
	case kindInteger, kindLong:
		return strconv.FormatInt(v.Int(), 10)
	case kindDouble:
		return xmlDouble(v.Float())
	case kindBlob:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case kindTime:
		return v.Interface().(time.Time).UTC().Format("2006-01-02T15:04:05.999Z")
	}
	panic("awswire: a kind of text that the codec does not know in " + p.shape)
}

func xmlDouble(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return strconv.FormatFloat(f, 'g', -1, 64) // NaN is "NaN"
}
