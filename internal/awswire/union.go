package awswire

import (
	"reflect"
	"strings"

	"github.com/aws/smithy-go"
	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire/jsonscan"
)

// unionPlanLocked binds the interface that the SDK has for a union to the
// structures that stand for its members: "Union" and "UnionMemberName", whose
// field Value is the member.
func (c *codec) unionPlanLocked(t reflect.Type, m *smithy.Schema) *plan {
	key := planKey{t, shapeName(m)}
	if p := c.structs[key]; p != nil {
		return p
	}
	p := &plan{kind: kindUnion, shape: key.shape, byName: map[string]*field{}}
	c.structs[key] = p
	for name, member := range m.Members() {
		typ := c.unions[key.shape+"Member"+strings.ToUpper(name[:1])+name[1:]]
		if typ == nil {
			panic("awswire: the service does not name the type of the member " + name + " of " + key.shape)
		}
		f := &field{plan: c.planLocked(typ.Field(0).Type, member), wire: name, xml: xmlName(member), path: strings.ToLower(name[:1]) + name[1:], member: typ}
		p.byName[name] = f
	}
	return p
}

// chosen returns the member that a union has, and its value; nil for a member
// that the SDK does not know.
func (p *plan) chosen(v reflect.Value) (*field, reflect.Value) {
	v = reflect.Indirect(v.Elem())
	for _, f := range p.byName {
		if f.member == v.Type() {
			return f, v.Field(0)
		}
	}
	return nil, reflect.Value{}
}

// choose sets a union to a new value of one of its members and returns where
// the value goes.
func (f *field) choose(v reflect.Value) reflect.Value {
	member := reflect.New(f.member)
	v.Set(member)
	return member.Elem().Field(0)
}

// union reads the object of a union: one member that is not null.
func (d *decoder) union(p *plan, v reflect.Value) error {
	if c := d.Peek(); c != '{' {
		return d.wrongStart("structure or map", c)
	}
	if d.depth++; d.depth > jsonscan.MaxDepth {
		return d.Fail("Nesting is too deep")
	}
	defer func() { d.depth-- }()
	count := 0
	err := d.Members(func(name string) error {
		if null, err := d.Null(); null || err != nil {
			return err
		}
		count++
		f := p.byName[name]
		if f == nil {
			return d.Skip(d.depth)
		}
		d.push(f.path)
		defer d.pop()
		return d.value(f.plan, f.choose(v), false)
	})
	if err != nil {
		return err
	}
	return oneMember(p, v, count)
}

// oneMember checks that a union has exactly one member, a known one.
func oneMember(p *plan, v reflect.Value, count int) error {
	if count == 1 && !v.IsNil() {
		return nil
	}
	return firn.Faultf(firn.Serialization, "The union %s must have exactly one member that is known", p.shape)
}
