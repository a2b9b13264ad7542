package logpattern

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// properties is the form in braces.
type properties struct {
	test      test[any] // of the decoded message
	selectors []selector
}

// selector is the path to a property.
type selector struct {
	text  string // as in the pattern
	steps []step
}

// step is the name of a member, the wildcard for all members and elements, or,
// when name is empty, an index.
type step struct {
	name  string
	all   bool
	index int
}

// A selector has one wildcard at most and a pattern three: the guide's quotas.
const (
	maxWildcardsOfSelector = 1
	maxWildcards           = 3
)

func parseProperties(s *scanner) (form, error) {
	if !strings.HasSuffix(s.src, "}") {
		return nil, &Error{Message: "If a filter pattern starts with '{' it must end with '}'"}
	}
	s.take("{")
	f := &properties{}
	t, err := either(s, func() (test[any], error) {
		sel, err := parseSelector(s)
		if err != nil {
			return nil, err
		}
		f.selectors = append(f.selectors, sel)
		return parseCondition(s, sel)
	})
	if err != nil {
		return nil, err
	}
	f.test = t
	if !s.take("}") {
		return nil, invalid("an operator or the closing brace is missing before '%s'", s.rest())
	}
	n := 0
	for _, sel := range f.selectors {
		n += sel.wildcards()
	}
	if n > maxWildcards {
		return nil, invalid("it has %d wildcard selectors, and at most %d are allowed", n, maxWildcards)
	}
	return f, s.finish()
}

func (sel selector) wildcards() int {
	n := 0
	for _, step := range sel.steps {
		if step.all {
			n++
		}
	}
	return n
}

// parseSelector reads $.name[0].name, also with the root an array, and with
// names that are not of letters, digits, - and _ as ['a.name'], and $.* and [*]
// for any.
func parseSelector(s *scanner) (selector, error) {
	s.space()
	start := s.pos
	if !s.take("$") {
		return selector{}, invalid("a property selector, which starts with '$', is missing before '%s'", s.rest())
	}
	var steps []step
	for !s.end() {
		dot := s.at(".")
		if dot {
			s.pos++
		}
		if s.at("[") {
			next, ok := s.subscript()
			if !ok {
				return selector{}, invalid("the property selector '%s' is not valid", s.src[start:s.pos]+s.rest())
			}
			steps = append(steps, next)
			continue
		}
		if !dot {
			break
		}
		if s.at("*") {
			s.pos++
			steps = append(steps, step{all: true})
			continue
		}
		name := s.run(nameByte)
		if name == "" {
			return selector{}, invalid("the property selector '%s' is not valid", s.src[start:s.pos])
		}
		steps = append(steps, step{name: name})
	}
	if len(steps) == 0 {
		return selector{}, invalid("the property selector '%s' names no property", s.src[start:s.pos])
	}
	sel := selector{text: s.src[start:s.pos], steps: steps}
	if sel.wildcards() > maxWildcardsOfSelector {
		return selector{}, invalid("the property selector '%s' has more than one wildcard", sel.text)
	}
	return sel, nil
}

// subscript reads [0], [*] or ['name'].
func (s *scanner) subscript() (step, bool) {
	body, after, ok := strings.Cut(s.src[s.pos+1:], "]")
	if !ok {
		return step{}, false
	}
	if quote := strings.IndexByte(`'"`, firstByte(body)); quote >= 0 && body != "" {
		mark := body[:1]
		name, behind, found := strings.Cut(s.src[s.pos+2:], mark+"]")
		if !found || name == "" {
			return step{}, false
		}
		s.pos = len(s.src) - len(behind)
		return step{name: name}, true
	}
	if body == "*" {
		s.pos = len(s.src) - len(after)
		return step{all: true}, true
	}
	n, err := strconv.ParseUint(body, 10, 31)
	if err != nil {
		return step{}, false
	}
	s.pos = len(s.src) - len(after)
	return step{index: int(n)}, true
}

func firstByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

// parseCondition reads what follows a selector.
func parseCondition(s *scanner, sel selector) (test[any], error) {
	if op, ok := s.operator(); ok {
		v, err := s.value(op)
		if err != nil {
			return nil, err
		}
		return func(doc any) bool {
			return sel.find(doc, func(node any) bool { return v.compareNode(op, node) })
		}, nil
	}
	switch word := s.keyword(); word {
	case "IS":
		return parseIs(s, sel)
	case "NOT":
		if s.keyword() != "EXISTS" {
			return nil, invalid("EXISTS is missing after NOT")
		}
		return func(doc any) bool { return !sel.find(doc, func(any) bool { return true }) }, nil
	case "EXISTS":
		return nil, invalid("EXISTS is not supported; compare with *, or use NOT EXISTS")
	default:
		return nil, invalid("an operator is missing after '%s'", sel.text)
	}
}

func parseIs(s *scanner, sel selector) (test[any], error) {
	var want any
	switch word := s.keyword(); word {
	case "NULL":
	case "TRUE":
		want = true
	case "FALSE":
		want = false
	case "NOT":
		return nil, invalid("IS NOT is not supported")
	default:
		return nil, invalid("NULL, TRUE or FALSE is missing after IS")
	}
	is := func(node any) bool {
		switch node := node.(type) {
		case nil:
			return want == nil
		case bool:
			return want == node
		default:
			return false
		}
	}
	return func(doc any) bool { return sel.find(doc, is) }, nil
}

func (s *scanner) keyword() string {
	s.space()
	return s.run(letterOrDigit)
}

// find reports whether a property exists of which the value is accepted: with
// a wildcard there can be many, and members are looked at in order of name.
func (sel selector) find(doc any, accept func(any) bool) bool {
	for i, step := range sel.steps {
		if step.all {
			rest := selector{steps: sel.steps[i+1:]}
			return slices.ContainsFunc(children(doc), func(child any) bool { return rest.find(child, accept) })
		}
		switch node := doc.(type) {
		case map[string]any:
			member, ok := node[step.name]
			if !ok || step.name == "" {
				return false
			}
			doc = member
		case []any:
			if step.name != "" || step.index >= len(node) {
				return false
			}
			doc = node[step.index]
		default:
			return false
		}
	}
	return accept(doc)
}

// children are the elements of an array and the values of an object.
func children(doc any) []any {
	switch node := doc.(type) {
	case []any:
		return node
	case map[string]any:
		list := make([]any, 0, len(node))
		for _, name := range slices.Sorted(maps.Keys(node)) {
			list = append(list, node[name])
		}
		return list
	default:
		return nil
	}
}

// compareNode compares a property. Objects, arrays and null are not values:
// neither = nor != is true of them ("the log format doesn't match"). A boolean
// is compared by name, and with words without quotes only.
func (v *value) compareNode(op operator, node any) bool {
	var text string
	switch node := node.(type) {
	case string:
		text = node
		if op != equal && op != notEqual {
			return false
		}
	case json.Number:
		text = node.String()
		if n, ok := number(text); ok && v.numeric && text != v.text {
			return ordered(op, n, v.number)
		}
	case bool:
		if v.quoted {
			return op == notEqual
		}
		text = strconv.FormatBool(node)
	default:
		return false
	}
	switch op {
	case equal, lessOrEqual, greaterOrEqual: // here the numbers are the same
		return v.is(text)
	case notEqual:
		return !v.is(text)
	default:
		return false
	}
}

// decode returns a message that is one JSON object or array and nothing else.
func decode(message string) (any, bool) {
	trimmed := strings.Trim(message, blanks)
	if trimmed == "" || trimmed[0] != '{' && trimmed[0] != '[' {
		return nil, false
	}
	dec := json.NewDecoder(strings.NewReader(trimmed))
	dec.UseNumber()
	var doc any
	if dec.Decode(&doc) != nil || dec.InputOffset() != int64(len(trimmed)) {
		return nil, false
	}
	return doc, true
}

func (f *properties) match(message string) bool {
	doc, ok := decode(message)
	return ok && f.test(doc)
}

func (f *properties) extract(message string) map[string]string {
	values := make(map[string]string, len(f.selectors))
	doc, _ := decode(message)
	for _, sel := range f.selectors {
		sel.find(doc, func(node any) bool {
			switch node := node.(type) {
			case string:
				values[sel.text] = node
			case json.Number:
				values[sel.text] = node.String()
			case bool:
				values[sel.text] = strconv.FormatBool(node)
			default:
				return false
			}
			return true
		})
	}
	return values
}
