package awswire

import (
	"io"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
	"github.com/firn-run/firn/internal/awswire/model"
)

// A plan binds a Go type of the SDK to its schema, once, at mount time: which
// field is which member, where the member travels, and what it must satisfy.
// Decoder, encoder and checks all walk plans; requests build none.
type plan struct {
	kind      kind
	pointer   bool   // the Go value is a pointer to the kind
	shape     string // name of the target shape
	sensitive bool   // the value must not appear in messages
	timeForm  string // of a timestamp: "", "date-time", "http-date", "epoch-seconds"
	check     *check // constraints of the shape; nil when it has none

	elem   *plan             // of lists and maps
	key    *check            // of the keys of a map; nil when they are free
	fields []field           // of structures, in the order of the Go type
	byName map[string]*field // of structures and unions: body members by their name

	flat      bool   // of lists and maps: the query protocol has no element around the items
	item      string // name of an item of a list in the query protocol
	keyName   string // names in an entry of a map in the query protocol
	valueName string
}

// kind is the JSON side of a plan.
type kind uint8

const (
	kindString kind = iota
	kindInteger
	kindLong
	kindDouble
	kindBool
	kindBlob
	kindReader // a blob that the SDK has as an io.Reader
	kindTime
	kindList
	kindMap
	kindStruct
	kindUnion
)

// place is where a member travels.
type place uint8

const (
	inBody place = iota
	inLabel
	inQuery
	inHeader
	inPayload // the member is the whole body
	inStatus  // the member is the status code of the answer
)

// field is one member of a structure.
type field struct {
	*plan
	index    int          // of the Go field
	member   reflect.Type // of a union: the structure that stands for the member
	bit      uint         // position in a set of seen members
	wire     string       // name in the body, query, header or path
	xml      string       // name in XML and in forms
	path     string       // name in messages: the member with a small first letter
	place    place
	required bool
	// semantic is true when the enum of the shape is not checked here, see
	// semanticEnums.
	semantic bool
}

// codec makes plans and runs them.
type codec struct {
	service  *model.Service
	rest     bool // members travel where their HTTP traits say, not all in the body
	required map[string]string
	rules    map[string]model.Rule
	unions   map[string]reflect.Type // the structures of members, by name

	mu      sync.Mutex
	structs map[planKey]*plan // guarded by mu
	checks  map[string]*check // guarded by mu; nil for shapes without rules
}

// planKey tells plans of structures apart.
type planKey struct {
	typ   reflect.Type
	shape string
}

func newCodec(s *model.Service) *codec {
	c := &codec{
		service:  s,
		rest:     s.Speaks(model.RESTJSON),
		required: s.Required,
		rules:    s.Rules,
		unions:   map[string]reflect.Type{},
		structs:  map[planKey]*plan{},
		checks:   map[string]*check{},
	}
	for _, t := range s.Unions {
		c.unions[t.Name()] = t
	}
	return c
}

// schemaProbe finds out the schema of a generated type: it is the argument of
// the first call that the type's Serialize makes. The embedded nil interface is
// never reached, because a zero value serializes no members.
type schemaProbe struct {
	smithy.ShapeSerializer
	schema *smithy.Schema
}

func (p *schemaProbe) WriteStruct(s *smithy.Schema) { p.schema = s }
func (p *schemaProbe) CloseStruct()                 {}

// rootPlan returns the plan of an input, output or exception of the SDK. It
// panics when t is none: operations are mounted by code, not by data.
func (c *codec) rootPlan(t reflect.Type) *plan {
	v, ok := reflect.New(t).Interface().(smithy.Serializable)
	if !ok {
		panic("awswire: " + t.String() + " has no schema")
	}
	probe := &schemaProbe{}
	v.Serialize(probe)
	if probe.schema == nil {
		return &plan{kind: kindStruct} // an output without members
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.structPlanLocked(t, probe.schema)
}

// structPlanLocked binds the fields of t to the members of s.
func (c *codec) structPlanLocked(t reflect.Type, s *smithy.Schema) *plan {
	key := planKey{t, shapeName(s)}
	if p := c.structs[key]; p != nil {
		return p
	}
	p := &plan{kind: kindStruct, shape: key.shape, byName: map[string]*field{}}
	c.structs[key] = p // before the members: a shape may contain itself
	required := " " + c.required[key.shape] + " "
	for i := range t.NumField() {
		member := memberOf(s, t.Field(i))
		if member == nil {
			continue
		}
		name := member.MemberName()
		f := field{plan: c.planLocked(t.Field(i).Type, member), index: i, bit: uint(len(p.fields))}
		f.wire, f.place = c.placeOf(member)
		f.xml = xmlName(member)
		f.path = strings.ToLower(name[:1]) + name[1:]
		f.required = strings.Contains(required, " "+name+" ") || f.place == inLabel
		f.semantic = semanticEnums(key.shape, name)
		p.fields = append(p.fields, f)
	}
	if len(p.fields) > 64 {
		panic("awswire: more members than a set holds: " + key.shape)
	}
	if want := plainMembers(s); len(p.fields) != want {
		panic("awswire: " + t.String() + " does not have all members of " + key.shape)
	}
	for i := range p.fields {
		if f := &p.fields[i]; f.place == inBody {
			p.byName[f.wire] = f
		}
	}
	return p
}

// memberOf returns the member of s that a Go field stands for, or nil. The
// generated field has the member's name with a capital first letter.
func memberOf(s *smithy.Schema, f reflect.StructField) *smithy.Schema {
	if !f.IsExported() {
		return nil
	}
	if m := s.Member(f.Name); m != nil {
		return m
	}
	return s.Member(strings.ToLower(f.Name[:1]) + f.Name[1:])
}

// plainMembers counts the members of s that have a Go field: all but event
// streams, which the SDK keeps out of its structures.
func plainMembers(s *smithy.Schema) int {
	n := 0
	for _, m := range s.Members() {
		if _, stream := smithy.SchemaTrait[*traits.Streaming](m); !stream || m.Type() != smithy.ShapeTypeUnion {
			n++
		}
	}
	return n
}

// shapeName is the name of the shape itself, also for a member that targets it.
func shapeName(s *smithy.Schema) string {
	if name := s.TargetID().Name; name != "" {
		return name
	}
	return s.ID().Name
}

// placeOf reads the HTTP binding of a member. Protocols without routes have
// all members in the body, under their own names, but for those of events.
func (c *codec) placeOf(m *smithy.Schema) (wire string, p place) {
	if _, ok := smithy.SchemaTrait[*traits.EventHeader](m); ok {
		return m.MemberName(), inHeader
	}
	if _, ok := smithy.SchemaTrait[*traits.EventPayload](m); ok {
		return m.MemberName(), inPayload
	}
	if !c.rest {
		return m.MemberName(), inBody
	}
	if _, ok := smithy.SchemaTrait[*traits.HTTPLabel](m); ok {
		return m.MemberName(), inLabel
	}
	if t, ok := smithy.SchemaTrait[*traits.HTTPQuery](m); ok {
		return t.Name, inQuery
	}
	if t, ok := smithy.SchemaTrait[*traits.HTTPHeader](m); ok {
		return t.Name, inHeader
	}
	if _, ok := smithy.SchemaTrait[*traits.HTTPPayload](m); ok {
		return m.MemberName(), inPayload
	}
	if _, ok := smithy.SchemaTrait[*traits.HTTPResponseCode](m); ok {
		return m.MemberName(), inStatus
	}
	if t, ok := smithy.SchemaTrait[*traits.JSONName](m); ok {
		return t.Name, inBody
	}
	return m.MemberName(), inBody
}

// planLocked binds a Go type to a member.
func (c *codec) planLocked(t reflect.Type, m *smithy.Schema) *plan {
	if m.Type() == smithy.ShapeTypeStructure {
		pointer := t.Kind() == reflect.Pointer
		if pointer {
			t = t.Elem()
		}
		p := c.structPlanLocked(t, m)
		if pointer {
			// A second plan with the same fields, made when they are known to be
			// bound: shapes that contain themselves do so through a pointer.
			return &plan{kind: kindStruct, pointer: true, shape: p.shape, elem: p}
		}
		return p
	}
	if m.Type() == smithy.ShapeTypeUnion {
		return c.unionPlanLocked(t, m)
	}
	p := &plan{shape: shapeName(m), check: c.checkLocked(shapeName(m))}
	_, p.sensitive = smithy.SchemaTrait[*traits.Sensitive](m)
	if t.Kind() == reflect.Pointer {
		p.pointer = true
		t = t.Elem()
	}
	p.kind = kindOf(t, m.Type())
	switch p.kind {
	case kindTime:
		if f, ok := smithy.SchemaTrait[*traits.TimestampFormat](m); ok {
			p.timeForm = f.Format
		}
	case kindList:
		p.elem = c.planLocked(t.Elem(), m.ListMember())
		_, p.flat = smithy.SchemaTrait[*traits.XMLFlattened](m)
		p.item = xmlName(m.ListMember())
	case kindMap:
		p.elem = c.planLocked(t.Elem(), m.MapValue())
		p.key = c.checkLocked(shapeName(m.MapKey()))
		_, p.flat = smithy.SchemaTrait[*traits.XMLFlattened](m)
		p.keyName, p.valueName = xmlName(m.MapKey()), xmlName(m.MapValue())
	}
	return p
}

// xmlName is the name of a member in XML and in forms.
func xmlName(m *smithy.Schema) string {
	if name, ok := smithy.SchemaTrait[*traits.XMLName](m); ok {
		return name.Name
	}
	return m.MemberName()
}

// kindOf names the kind of a Go type, which must be one that the SDK has for
// the shape.
func kindOf(t reflect.Type, s smithy.ShapeType) kind {
	switch {
	case s == smithy.ShapeTypeTimestamp && t == reflect.TypeFor[time.Time]():
		return kindTime
	case s == smithy.ShapeTypeBlob && t == reflect.TypeFor[io.Reader]():
		return kindReader
	case s == smithy.ShapeTypeBlob && t == reflect.TypeFor[[]byte]():
		return kindBlob
	}
	switch t.Kind() {
	case reflect.String:
		return kindString
	case reflect.Int32:
		return kindInteger
	case reflect.Int64:
		return kindLong
	case reflect.Float64:
		return kindDouble
	case reflect.Bool:
		return kindBool
	case reflect.Slice:
		return kindList
	case reflect.Map:
		return kindMap
	}
	panic("awswire: a kind of member that the codec does not know: " + t.String())
}

// semanticEnums reports the members whose enum the model has but AWS checks
// later, in the operation, with InvalidParameterValueException: an identifier
// of a runtime may also be an ARN there.
func semanticEnums(shape, member string) bool {
	return member == "Runtime" && (shape == "CreateFunctionRequest" || shape == "UpdateFunctionConfigurationRequest")
}
