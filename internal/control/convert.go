package control

import (
	"maps"
	"reflect"
	"slices"
)

// convert copies the fields that two of AWS's structs have in common by name
// and type. The SDK gives a function's description a different Go type for
// every operation that answers it.
func convert[To any](from any) *To {
	to := new(To)
	dst, src := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for i := range dst.NumField() {
		field := dst.Type().Field(i)
		if value := src.FieldByName(field.Name); field.IsExported() && value.IsValid() && value.Type() == field.Type {
			dst.Field(i).Set(value)
		}
	}
	return to
}

func ptr[T any](v T) *T { return &v }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// set replaces *dst unless the request left the value out.
func set[T any](dst **T, v *T) {
	if v != nil {
		*dst = v
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// blank reports whether a setting of a request says nothing: it was left out,
// or is one of the empty forms that tools send for the same (VpcConfig with
// two empty lists, an ARN of no characters).
func blank(setting any) bool {
	return !reflect.ValueOf(setting).IsValid() || blankValue(reflect.ValueOf(setting))
}

func blankValue(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil() || blankValue(v.Elem())
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Struct:
		for i := range v.NumField() {
			if !blankValue(v.Field(i)) {
				return false
			}
		}
		return true
	default:
		return v.IsZero()
	}
}

// sortedNames are the names of all functions.
func (c *Control) sortedNames() []string {
	var names []string
	for name := range c.functions.Range {
		names = append(names, name.(string))
	}
	slices.Sort(names)
	return names
}
