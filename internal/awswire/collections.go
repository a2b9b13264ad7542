package awswire

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// array reads a list. A null item is a violation, as an item of Lambda's
// lists always must be there.
func (d *decoder) array(p *plan, v reflect.Value) error {
	if c := d.Peek(); c != '[' {
		return d.wrongStart("list", c)
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	var shown []string
	nulls, count := 0, 0
	err := d.Items(func() error {
		count++
		if d.values++; d.values > maxValues {
			return tooManyValues()
		}
		if null, err := d.Null(); null || err != nil {
			nulls++
			return err
		}
		v.Grow(1)
		v.SetLen(v.Len() + 1)
		item := v.Index(v.Len() - 1)
		item.SetZero()
		if p.elem.kind == kindString && !p.elem.pointer {
			t, err := d.scalar()
			if err != nil {
				return err
			}
			if t.kind != "STRING_VALUE" {
				return wrongType(t.kind, "String")
			}
			item.SetString(string(t.text))
			shown = append(shown, item.String())
			return nil
		}
		d.push(strconv.Itoa(count) + ".member")
		defer d.pop()
		return d.value(p.elem, item, false)
	})
	if err != nil {
		return err
	}
	d.list(p, shown, slices.Repeat([]string{"null"}, nulls), count)
	return nil
}

// list checks a list as a whole and its items, if they are strings. AWS names
// the list and describes all that an item must be.
func (d *decoder) list(p *plan, items, nulls []string, count int) {
	show := func() string { return quotedList(p, append(slices.Clone(items), nulls...)) }
	if c := p.check; c != nil {
		if c.HasMin && float64(count) < c.Min {
			d.add(show(), c.least("length"))
		}
		if c.HasMax && float64(count) > c.Max {
			d.add(show(), c.most("length"))
		}
	}
	c := p.elem.check
	if len(nulls) > 0 || c != nil && slices.ContainsFunc(items, func(s string) bool { return !c.satisfies(s) }) {
		if c == nil {
			c = &check{}
		}
		if p.shape == "CompatibleRuntimes" && len(nulls) == 0 {
			d.add(show(), c.oneOf()) // as of a single runtime, as recorded
			return
		}
		d.add(show(), "Member must satisfy constraint: "+c.describe())
	}
}

func quotedList(p *plan, items []string) string {
	if p.sensitive || p.elem.sensitive {
		return ""
	}
	return "'[" + strings.Join(items, ", ") + "]' "
}

// object reads a map.
func (d *decoder) object(p *plan, v reflect.Value) error {
	if c := d.Peek(); c != '{' {
		return d.wrongStart("map", c)
	}
	v.Set(reflect.MakeMap(v.Type()))
	nulls := 0
	err := d.Members(func(name string) error {
		if d.values++; d.values > maxValues {
			return tooManyValues()
		}
		if null, err := d.Null(); null || err != nil {
			nulls++
			return err
		}
		item := reflect.New(v.Type().Elem()).Elem()
		if p.elem.kind == kindString {
			t, err := d.scalar()
			if err != nil {
				return err
			}
			if t.kind != "STRING_VALUE" {
				return wrongType(t.kind, "String")
			}
			item.SetString(string(t.text))
		} else {
			elem := p.elem
			if elem.kind == kindDouble {
				unchecked := *elem // the map is checked as a whole; see entries
				unchecked.check = nil
				elem = &unchecked
			}
			d.push(name + ".member")
			defer d.pop()
			if err := d.value(elem, item, false); err != nil {
				return err
			}
		}
		v.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), item)
		return nil
	})
	if err != nil {
		return err
	}
	d.entries(p, v, nulls)
	return nil
}

// entries checks the size, keys and values of a map.
func (d *decoder) entries(p *plan, v reflect.Value, nulls int) {
	badKey, badValue := false, nulls > 0
	var shown []string
	for it := v.MapRange(); it.Next(); {
		key := it.Key().String()
		badKey = badKey || p.key != nil && !p.key.satisfies(key)
		switch p.elem.kind {
		case kindString:
			value := it.Value().String()
			badValue = badValue || p.elem.check != nil && !p.elem.check.satisfies(value)
			shown = append(shown, key+"="+value)
		case kindDouble:
			value := reflect.Indirect(it.Value()).Float()
			badValue = badValue || p.elem.check != nil && !p.elem.check.within(value)
			shown = append(shown, key+"="+double(value))
		default:
			shown = append(shown, key)
		}
	}
	slices.Sort(shown)
	text := "'{" + strings.Join(shown, ", ") + "}' "
	if p.sensitive || p.elem.sensitive {
		text = ""
	}
	if c := p.check; c != nil && c.HasMin && float64(v.Len()) < c.Min {
		d.add(text, c.least("length"))
	}
	if c := p.check; c != nil && c.HasMax && float64(v.Len()) > c.Max {
		d.add(text, c.most("length"))
	}
	if badKey {
		d.add(text, "Map keys must satisfy constraint: "+p.key.describeKey())
	}
	if badValue {
		c := p.elem.check
		if c == nil {
			c = &check{}
		}
		described := c.describe()
		if p.elem.kind == kindDouble {
			described = c.describeNumber()
		}
		d.add(text, "Map value must satisfy constraint: "+described)
	}
}
