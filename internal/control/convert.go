package control

import (
	"bytes"
	"io"
	"maps"
	"reflect"
	"slices"
	"time"
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

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (c *Control) sortedNames() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sortedKeys(c.names)
}

func readerAt(b []byte) io.ReaderAt { return bytes.NewReader(b) }

func reader(b []byte) io.Reader { return bytes.NewReader(b) }
