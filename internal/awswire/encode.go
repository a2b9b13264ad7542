package awswire

import (
	"bytes"
	"encoding/base64"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/firn-run/firn/internal/awswire/model"
)

// writeOutput answers with v, the output structure of p, in the protocol of
// the request.
func (m *Mux) writeOutput(w http.ResponseWriter, r *Request, p *plan, v reflect.Value) error {
	var body []byte
	h := w.Header()
	switch r.protocol {
	case model.RESTJSON:
		return writeREST(w, p, v, r.op.code)
	case model.AWSJSON:
		h.Set("Content-Type", "application/x-amz-json-"+r.json)
		if p.shape != "" { // an operation without output has no body
			body = appendStruct(make([]byte, 0, 1024), p, v)
		}
	case model.CBOR:
		h.Set(smithyHeader, smithyCBOR)
		if p.shape != "" {
			h.Set("Content-Type", "application/cbor")
			body = cbor.Encode(cborStruct(p, v))
		}
	case model.Query:
		h.Set("Content-Type", "text/xml")
		body = m.answerXML(r, p, v)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.op.code)
	_, _ = w.Write(body) // a caller that went away does not wait for it
	return nil
}

// writeREST answers with v, the output structure of p. code is the
// operation's status of success, which a status member of the output
// overrides.
func writeREST(w http.ResponseWriter, p *plan, v reflect.Value, code int) error {
	var body []byte
	contentType := "application/json"
	whole := false // the body is one member
	for i := range p.fields {
		f := &p.fields[i]
		member := v.Field(f.index)
		if f.place == inPayload {
			whole = true
			if f.kind == kindBlob {
				body = member.Bytes()
			} else if !absent(f.plan, member) {
				body = appendValue(nil, f.plan, member)
			}
		}
	}
	code = setBound(w.Header(), p, v, code)
	if !whole && len(p.byName) > 0 {
		body = appendValue(make([]byte, 0, 1024), p, v)
	}
	if len(body) > 0 || code == http.StatusOK || code == http.StatusCreated || code == http.StatusAccepted {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	if code == http.StatusNoContent {
		body = nil
		w.Header().Del("Content-Length")
		w.Header().Del("Content-Type")
	}
	w.WriteHeader(code)
	_, _ = w.Write(body) // a caller that went away does not wait for it
	return nil
}

// setBound sets the headers that are members of v, and returns the status,
// which may be one too.
func setBound(h http.Header, p *plan, v reflect.Value, code int) int {
	for i := range p.fields {
		f := &p.fields[i]
		switch f.place {
		case inStatus:
			if n := int(v.Field(f.index).Int()); n != 0 {
				code = n
			}
		case inHeader:
			if text, ok := headerText(f.plan, v.Field(f.index)); ok {
				h.Set(f.wire, text)
			}
		}
	}
	return code
}

// absent reports whether a member is left out of the answer: nil pointers,
// slices and maps, and empty strings of enum types. Numbers and booleans
// without a pointer are always sent, zero too, as AWS does.
func absent(p *plan, v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return v.IsNil()
	case reflect.String:
		return v.Len() == 0
	}
	return false
}

// headerText renders a member that travels in a header.
func headerText(p *plan, v reflect.Value) (string, bool) {
	if absent(p, v) {
		return "", false
	}
	if p.pointer {
		v = v.Elem()
	}
	switch p.kind {
	case kindString:
		return v.String(), true
	case kindBool:
		return strconv.FormatBool(v.Bool()), true
	case kindInteger, kindLong:
		return strconv.FormatInt(v.Int(), 10), true
	case kindTime:
		return v.Interface().(time.Time).UTC().Format(http.TimeFormat), true
	}
	panic("awswire: a kind of header that the codec does not know in " + p.shape)
}

// appendValue appends the JSON of v, which is not absent.
func appendValue(b []byte, p *plan, v reflect.Value) []byte {
	if p.pointer {
		v = v.Elem()
		if p.kind == kindStruct {
			p = p.elem
		}
	}
	switch p.kind {
	case kindString:
		return appendString(b, v.String())
	case kindInteger, kindLong:
		return strconv.AppendInt(b, v.Int(), 10)
	case kindDouble:
		return appendDouble(b, v.Float())
	case kindBool:
		return strconv.AppendBool(b, v.Bool())
	case kindBlob:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v.Bytes())
		return append(b, '"')
	case kindTime:
		return appendTime(b, v.Interface().(time.Time), p.timeForm)
	case kindList:
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendItem(b, p.elem, v.Index(i))
		}
		return append(b, ']')
	case kindMap:
		return appendMap(b, p, v)
	case kindStruct:
		return appendStruct(b, p, v)
	case kindUnion:
		if f, member := p.chosen(v); f != nil {
			b = append(appendString(append(b, '{'), f.wire), ':')
			return append(appendValue(b, f.plan, member), '}')
		}
		return append(b, "null"...)
	}
	panic("awswire: a kind of value that the codec does not know in " + p.shape)
}

// appendItem appends an item of a list or map, where nil is null.
func appendItem(b []byte, p *plan, v reflect.Value) []byte {
	if v.Kind() != reflect.String && absent(p, v) {
		return append(b, "null"...)
	}
	return appendValue(b, p, v)
}

func appendStruct(b []byte, p *plan, v reflect.Value) []byte {
	b = append(b, '{')
	first := true
	for i := range p.fields {
		f := &p.fields[i]
		if f.place != inBody || absent(f.plan, v.Field(f.index)) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendString(b, f.wire), ':')
		b = appendValue(b, f.plan, v.Field(f.index))
	}
	return append(b, '}')
}

// appendMap appends a map in the order of its keys, so that equal outputs are
// equal bytes.
func appendMap(b []byte, p *plan, v reflect.Value) []byte {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
	b = append(b, '{')
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, key.String()), ':')
		b = appendItem(b, p.elem, v.MapIndex(key))
	}
	return append(b, '}')
}

// appendDouble appends a number, or the string that REST-JSON has for the
// values that JSON has not.
func appendDouble(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(b, `"-Infinity"`...)
	}
	return appendFraction(b, f, 'g')
}

// appendFraction appends a number with a fraction, .0 at least, as AWS does.
func appendFraction(b []byte, f float64, format byte) []byte {
	start := len(b)
	if b = strconv.AppendFloat(b, f, format, -1, 64); !bytes.ContainsAny(b[start:], ".e") {
		b = append(b, ".0"...)
	}
	return b
}

// appendTime appends a timestamp: seconds since 1970 with milliseconds where
// the model does not say otherwise.
func appendTime(b []byte, t time.Time, form string) []byte {
	switch form {
	case "date-time":
		return appendString(b, t.UTC().Format("2006-01-02T15:04:05.999Z"))
	case "http-date":
		return appendString(b, t.UTC().Format(http.TimeFormat))
	}
	return appendFraction(b, float64(t.UnixMilli())/1000, 'f')
}

// appendString appends a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
