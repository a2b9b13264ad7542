package awswire

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/url"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go/document"
	"github.com/aws/smithy-go/middleware"
	"github.com/google/go-cmp/cmp"
)

// filler fills structures of the SDK with values that are hard to carry.
type filler struct {
	*rand.Rand
	xml bool // what XML cannot say is left out
}

// text returns a string. Where it travels in a header it is plain.
func (f filler) text(plain bool) string {
	if plain {
		return fmt.Sprintf("v%d/+=", f.IntN(1000))
	}
	pieces := []string{"a", "Z", "0", "ü", "日本", "\U0001F600", " ", "/", ":", "$LATEST", "%2F", "+", "&", "=", "?", "#", "\"", "\\", "\n", "\t", "\x01", "<", "\u2028", "~", ";", ","}
	if f.xml {
		pieces = slices.DeleteFunc(pieces, func(s string) bool { return s == "\x01" })
	}
	s := "x"
	for range f.IntN(6) {
		s += pieces[f.IntN(len(pieces))]
	}
	return s
}

// fill sets v to a random value that is not zero, of the given plan.
func (f filler) fill(p *plan, v reflect.Value, pl place, depth int) {
	if p.pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
		if p.kind == kindStruct {
			p = p.elem
		}
	}
	switch p.kind {
	case kindString:
		v.SetString(f.text(pl == inHeader))
	case kindInteger:
		v.SetInt(int64(f.Int32()) + 1)
	case kindLong:
		v.SetInt(f.Int64N(1<<53) + 1)
	case kindDouble:
		v.SetFloat(f.Float64() + 0.001)
	case kindBool:
		v.SetBool(true)
	case kindBlob:
		v.SetBytes([]byte(f.text(false)))
	case kindReader:
		v.Set(reflect.ValueOf(bytes.NewReader([]byte(`{"a":1}`))))
	case kindTime:
		v.Set(reflect.ValueOf(time.UnixMilli(f.Int64N(2e12)).UTC()))
		if pl == inQuery || pl == inHeader {
			v.Set(reflect.ValueOf(time.Unix(f.Int64N(2e9), 0).UTC()))
		}
	case kindList:
		n := 1 + f.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			f.fill(p.elem, v.Index(i), pl, depth+1)
		}
		if pl == inQuery { // the client sorts what it signs
			sort.Slice(v.Interface(), func(i, j int) bool {
				return sentAs(v.Index(i)) < sentAs(v.Index(j))
			})
		}
	case kindMap:
		v.Set(reflect.MakeMap(v.Type()))
		for range 1 + f.IntN(3) {
			item := reflect.New(v.Type().Elem()).Elem()
			f.fill(p.elem, item, pl, depth+1)
			v.SetMapIndex(reflect.ValueOf(f.text(false)).Convert(v.Type().Key()), item)
		}
	case kindUnion:
		names := slices.Sorted(maps.Keys(p.byName))
		if f.xml { // a form cannot say an empty structure
			names = slices.DeleteFunc(names, func(name string) bool {
				m := p.byName[name]
				return m.kind == kindStruct && len(m.fields) == 0
			})
		}
		member := p.byName[names[f.IntN(len(names))]]
		f.fill(member.plan, member.choose(v), pl, depth+1)
	case kindStruct:
		if depth > 8 {
			return
		}
		for i := range p.fields {
			field := &p.fields[i]
			if field.place == inStatus {
				continue // the code of success comes back
			}
			f.fill(field.plan, v.Field(field.index), field.place, depth+1)
		}
	}
}

// sentAs is an item as the client writes it into the query.
func sentAs(v reflect.Value) string {
	return strings.ReplaceAll(url.QueryEscape(v.String()), "+", "%20")
}

// sameStructures compares structures of the SDK by their members.
func sameStructures() cmp.Options {
	return cmp.Options{
		cmp.FilterPath(func(p cmp.Path) bool {
			name := p.Last().String()
			last := p.Last().Type()
			return name == ".StatusCode" || name == ".Status" && last.Kind() == reflect.Int32 ||
				last == reflect.TypeFor[middleware.Metadata]() || last == reflect.TypeFor[document.NoSerde]()
		}, cmp.Ignore()),
		cmp.Exporter(func(t reflect.Type) bool { return t.PkgPath() != "time" && t.Name() != "" }),
		// The client reads milliseconds through a float and cuts them.
		cmp.Comparer(func(a, b time.Time) bool { return a.Sub(b).Abs() <= time.Millisecond }),
		cmp.Comparer(func(a, b io.Reader) bool { return true }), // read already; compared apart
	}
}

// TestRoundTripOfEveryOperation sends a full input of every operation through
// the SDK's client and a full output back: all members must arrive as they
// were. Constraints are off, since values are random.
func TestRoundTripOfEveryOperation(t *testing.T) {
	mux, _ := testMux()
	mux.codec.rules = nil
	var gotIn, sentOut any
	var id string
	f := filler{Rand: rand.New(rand.NewPCG(1, 2))}
	inputs := mountAll(mux, func(ctx context.Context, in, out any) error {
		gotIn, sentOut, id = in, out, RequestID(ctx)
		if r, ok := in.(*lambda.InvokeAsyncInput); ok {
			if b, err := io.ReadAll(r.InvokeArgs); err != nil || string(b) != `{"a":1}` {
				return fmt.Errorf("body %q, %v", b, err)
			}
		}
		f.fill(mux.codec.rootPlan(reflect.TypeOf(out).Elem()), reflect.ValueOf(out).Elem(), inBody, 0)
		return nil
	})
	client := reflect.ValueOf(testClient(t, mux))
	for name, typ := range inputs {
		if name == "InvokeWithResponseStream" {
			continue // its output is an event stream, which is for a raw handler
		}
		for range 4 {
			in := reflect.New(typ)
			f.fill(mux.codec.rootPlan(typ), in.Elem(), inBody, 0)
			gotIn = nil
			results := client.MethodByName(name).Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
			if err := results[1].Interface(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(in.Interface(), gotIn, sameStructures()); diff != "" {
				t.Errorf("%s: input (-sent +received):\n%s", name, diff)
			}
			if mux.ops[name].code == 204 {
				continue // has no body
			}
			if diff := cmp.Diff(sentOut, results[0].Interface(), sameStructures()); diff != "" {
				t.Errorf("%s: output (-sent +received):\n%s", name, diff)
			}
			if len(id) != 36 {
				t.Errorf("%s: request ID %q", name, id)
			}
		}
	}
	if got := len(mux.Mounted()); got != len(inputs) || !slices.Contains(mux.Mounted(), "Invoke") {
		t.Errorf("%d operations are mounted of %d", got, len(inputs))
	}
}
