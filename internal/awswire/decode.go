package awswire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire/jsonscan"
	"github.com/firn-run/firn/internal/awswire/model"
)

// decoder fills one input. The first error of syntax or type ends it; broken
// constraints are collected.
type decoder struct {
	jsonscan.Scanner
	violations
	depth  int
	values int // met so far
}

// decode fills v, the input structure of p, from the request, and checks it.
// The error is a *firn.Fault for the caller.
func (c *codec) decode(p *plan, v reflect.Value, r *Request) error {
	d := &decoder{violations: violations{broken: c.service.Broken}}
	if err := d.bound(p, v, r); err != nil {
		return err
	}
	if err := d.any(p, v, r); err != nil {
		var syntax *jsonscan.SyntaxError
		if errors.As(err, &syntax) {
			return &firn.Fault{Kind: firn.Serialization, Message: syntax.Error()}
		}
		return err
	}
	if slices.Contains(c.service.Unchecked, r.Operation) {
		return nil
	}
	return d.fault(c.service.Invalid)
}

// any reads the members of p in the body, in the protocol of the request.
func (d *decoder) any(p *plan, v reflect.Value, r *Request) error {
	switch r.protocol {
	case model.CBOR:
		return d.cbor(p, v, r.Body)
	case model.Query:
		return d.form(p, v, r.form)
	}
	return d.body(p, v, r.Body)
}

// checkBound checks the members of p outside the body, for a raw operation.
func (c *codec) checkBound(p *plan, r *Request) error {
	d := &decoder{}
	if err := d.bound(p, reflect.Value{}, r); err != nil {
		return err
	}
	return d.fault(c.service.Invalid)
}

// bound reads the members of p in the path, query and headers. v may be
// invalid: then they are checked only.
func (d *decoder) bound(p *plan, v reflect.Value, r *Request) error {
	for i := range p.fields {
		f := &p.fields[i]
		var err error
		switch f.place {
		case inLabel:
			err = d.boundText(f, v, r.Label(f.wire))
		case inQuery:
			err = d.boundQuery(f, v, r)
		case inHeader:
			if values := r.HTTP.Header[http.CanonicalHeaderKey(f.wire)]; len(values) > 0 {
				err = d.boundText(f, v, values[0])
			} else if f.required {
				d.missing(f.path)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// boundQuery reads one member from the query.
func (d *decoder) boundQuery(f *field, v reflect.Value, r *Request) error {
	values := r.queryValues()[f.wire]
	switch {
	case len(values) == 0:
		if f.required {
			d.missing(f.path)
		}
		return nil
	case f.kind == kindList:
		d.push(f.path)
		defer d.pop()
		d.list(f.plan, values, nil, len(values))
		if v.IsValid() {
			setStrings(v.Field(f.index), values)
		}
		return nil
	default:
		return d.boundText(f, v, values[0])
	}
}

// setStrings sets a slice of a string type.
func setStrings(v reflect.Value, values []string) {
	v.Set(reflect.MakeSlice(v.Type(), len(values), len(values)))
	for i, s := range values {
		v.Index(i).SetString(s)
	}
}

// boundText reads one scalar that travels as text.
func (d *decoder) boundText(f *field, v reflect.Value, text string) error {
	d.push(f.path)
	defer d.pop()
	var target reflect.Value
	if v.IsValid() {
		target = settable(f.plan, v.Field(f.index))
	}
	switch f.kind {
	case kindString:
		d.checkText(f.plan, f.semantic, text)
		if target.IsValid() {
			target.SetString(text)
		}
		return nil
	case kindBool:
		b, err := strconv.ParseBool(text)
		if err != nil || text != "true" && text != "false" {
			return wrongType("STRING_VALUE", "Boolean")
		}
		if target.IsValid() {
			target.SetBool(b)
		}
		return nil
	case kindTime:
		t, err := parseTime(text, f.timeForm)
		if err != nil {
			return wrongType("STRING_VALUE", "Date")
		}
		if target.IsValid() {
			target.Set(reflect.ValueOf(t))
		}
		return nil
	default:
		return d.numeric(f.plan, target, text, "STRING_VALUE")
	}
}

// parseTime reads a timestamp outside the body: date-time unless the model
// says otherwise, or seconds since 1970, which older clients send.
func parseTime(text, form string) (time.Time, error) {
	if form == "http-date" {
		return http.ParseTime(text)
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		return epoch(seconds), nil
	}
	return time.Parse(time.RFC3339, text)
}

// epoch converts seconds since 1970, kept to milliseconds as AWS sends them.
func epoch(seconds float64) time.Time {
	return time.UnixMilli(int64(seconds*1000 + 0.5)).UTC()
}

// body reads the members of p in the body.
func (d *decoder) body(p *plan, v reflect.Value, body []byte) error {
	d.Data = body
	for i := range p.fields {
		if f := &p.fields[i]; f.place == inPayload {
			return d.payload(f, v.Field(f.index), body)
		}
	}
	if len(p.byName) == 0 {
		return nil
	}
	if len(bytes.TrimSpace(body)) == 0 {
		d.Data = []byte("{}") // a body that is left out has no members
	}
	if err := d.structure(p, v); err != nil {
		return err
	}
	return d.End()
}

// payload reads the member that is the whole body.
func (d *decoder) payload(f *field, v reflect.Value, body []byte) error {
	switch f.kind {
	case kindReader:
		v.Set(reflect.ValueOf(bytes.NewReader(body)))
		return nil
	case kindBlob:
		if len(body) > 0 {
			v.SetBytes(body)
			d.push(f.path)
			d.blob(f.plan, body)
			d.pop()
		}
		return nil
	default:
		if len(body) == 0 {
			return nil
		}
		if err := d.value(f.plan, v, false); err != nil {
			return err
		}
		return d.End()
	}
}

// blob checks the length of a blob.
func (d *decoder) blob(p *plan, b []byte) {
	if p.check != nil {
		d.bounds(p, "length", float64(len(b)), "java.nio.HeapByteBuffer[pos=0 lim="+strconv.Itoa(len(b))+" cap="+strconv.Itoa(len(b))+"]")
	}
}

// structure reads an object into v.
func (d *decoder) structure(p *plan, v reflect.Value) error {
	if c := d.Peek(); c != '{' {
		return d.wrongStart("structure or map", c)
	}
	if d.depth++; d.depth > jsonscan.MaxDepth {
		return d.Fail("Nesting is too deep")
	}
	defer func() { d.depth-- }()
	var seen uint64
	err := d.Members(func(name string) error {
		f := p.byName[name]
		if f == nil {
			return d.Skip(d.depth)
		}
		if null, err := d.Null(); null || err != nil {
			return err
		}
		seen |= 1 << f.bit
		d.push(f.path)
		defer d.pop()
		return d.value(f.plan, v.Field(f.index), f.semantic)
	})
	if err != nil {
		return err
	}
	for i := range p.fields {
		if f := &p.fields[i]; f.required && f.place == inBody && seen&(1<<f.bit) == 0 {
			d.missing(f.path)
		}
	}
	return nil
}

// settable returns where the value itself goes, behind a pointer if there is
// one.
func settable(p *plan, v reflect.Value) reflect.Value {
	if !p.pointer {
		return v
	}
	v.Set(reflect.New(v.Type().Elem()))
	return v.Elem()
}

// value reads one value, which is not null, into v.
func (d *decoder) value(p *plan, v reflect.Value, semantic bool) error {
	if d.values++; d.values > maxValues {
		return tooManyValues()
	}
	v = settable(p, v)
	switch p.kind {
	case kindUnion:
		return d.union(p, v)
	case kindStruct:
		if p.elem != nil {
			p = p.elem
		}
		v.SetZero() // of a member that came before under the same name
		return d.structure(p, v)
	case kindList:
		return d.array(p, v)
	case kindMap:
		return d.object(p, v)
	}
	token, err := d.scalar()
	if err != nil {
		return err
	}
	switch p.kind {
	case kindString:
		if token.kind != "STRING_VALUE" {
			return wrongType(token.kind, "String")
		}
		s := string(token.text)
		d.checkText(p, semantic, s)
		v.SetString(s)
	case kindBool:
		if token.kind != "TRUE_VALUE" && token.kind != "FALSE_VALUE" {
			return wrongType(token.kind, "Boolean")
		}
		v.SetBool(token.kind == "TRUE_VALUE")
	case kindBlob:
		return d.base64(p, v, token)
	case kindTime:
		seconds, err := strconv.ParseFloat(string(token.text), 64)
		if token.kind != "NUMBER_VALUE" || err != nil {
			return wrongType(token.kind, "Date")
		}
		v.Set(reflect.ValueOf(epoch(seconds)))
	default:
		if token.kind != "NUMBER_VALUE" && !(p.kind == kindDouble && notANumber(string(token.text))) {
			return wrongType(token.kind, p.kind.java())
		}
		return d.numeric(p, v, string(token.text), token.kind)
	}
	return nil
}

// tooManyValues is the answer to a body that would take much memory to
// understand.
func tooManyValues() error {
	return firn.Faultf(firn.Serialization, "The request has more than %d values", maxValues)
}

// notANumber reports the numbers that JSON has as strings.
func notANumber(s string) bool { return s == "NaN" || s == "Infinity" || s == "-Infinity" }

// scalar is a scalar and its name in AWS's messages.
type scalar struct {
	kind string
	text []byte
}

// scalar reads a scalar of any type. An object or array is an error.
func (d *decoder) scalar() (scalar, error) {
	switch c := d.Peek(); c {
	case '{':
		return scalar{}, firn.Faultf(firn.Serialization, "Start of structure or map found where not expected.")
	case '[':
		return scalar{}, firn.Faultf(firn.Serialization, "Start of list found where not expected")
	case '"':
		text, err := d.Bytes()
		return scalar{"STRING_VALUE", text}, err
	case 't':
		return scalar{"TRUE_VALUE", nil}, d.Literal("true")
	case 'f':
		return scalar{"FALSE_VALUE", nil}, d.Literal("false")
	default:
		text, err := d.Number()
		return scalar{"NUMBER_VALUE", []byte(text)}, err
	}
}

// numeric parses a number of p's kind, checks it and sets it.
func (d *decoder) numeric(p *plan, v reflect.Value, text, kind string) error {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return wrongType(kind, p.kind.java())
	}
	if p.kind == kindDouble {
		d.checkNumber(p, f, text)
		if v.IsValid() {
			v.SetFloat(f)
		}
		return nil
	}
	bits := 32
	if p.kind == kindLong {
		bits = 64
	}
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		// 128.0 and 1e3 are integers too.
		n = int64(f)
		if float64(n) != f || f < -1<<53 || f > 1<<53 || bits == 32 && int64(int32(n)) != n {
			return wrongType(kind, p.kind.java())
		}
	}
	d.checkNumber(p, float64(n), strconv.FormatInt(n, 10))
	if v.IsValid() {
		v.SetInt(n)
	}
	return nil
}

// base64 reads a blob.
func (d *decoder) base64(p *plan, v reflect.Value, t scalar) error {
	if t.kind != "STRING_VALUE" {
		return wrongType(t.kind, "ByteBuffer")
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(t.text)))
	n, err := base64.StdEncoding.Decode(out, t.text)
	if err != nil {
		return firn.Faultf(firn.Serialization, "The value at '%s' is not valid base64", strings.Join(d.path, "."))
	}
	d.blob(p, out[:n])
	v.SetBytes(out[:n])
	return nil
}

// java is the type's name in AWS's messages.
func (k kind) java() string {
	switch k {
	case kindLong:
		return "Long"
	case kindDouble:
		return "Double"
	default:
		return "Integer"
	}
}

// wrongType is AWS's answer to a value of another JSON type.
func wrongType(found, wanted string) error {
	article := "a "
	if strings.ContainsAny(wanted[:1], "AEIO") {
		article = "an "
	}
	return firn.Faultf(firn.Serialization, "%s can not be converted to %s%s", found, article, wanted)
}

// wrongStart is AWS's answer where a collection should begin with another
// byte. What cannot begin any value is an error of syntax.
func (d *decoder) wrongStart(wanted string, found byte) error {
	switch {
	case found == '{':
		return firn.Faultf(firn.Serialization, "Start of structure or map found where not expected.")
	case found == '[':
		return firn.Faultf(firn.Serialization, "Start of list found where not expected")
	}
	if err := d.Skip(d.depth); err != nil {
		return err
	}
	return firn.Faultf(firn.Serialization, "Expected %s or null", wanted)
}
