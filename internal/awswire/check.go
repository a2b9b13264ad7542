package awswire

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire/model"
)

// check is a rule made ready to run. It is immutable.
type check struct {
	model.Rule
	re, not *regexp.Regexp
	values  map[string]bool
	// names is true for shapes that every simple name satisfies; see
	// simpleName.
	names bool
}

// checkLocked returns the check of a shape, or nil when it has no rule.
func (c *codec) checkLocked(shape string) *check {
	if ready, ok := c.checks[shape]; ok {
		return ready
	}
	r, ok := c.rules[shape]
	if !ok {
		c.checks[shape] = nil
		return nil
	}
	ch := &check{Rule: r}
	match := r.Pattern
	if r.Match != "" {
		match = r.Match
	}
	if match != "" {
		ch.re = regexp.MustCompile(`\A(?:` + match + `)\z`)
		ch.names = ch.re.MatchString("aZ0-_") && strings.HasSuffix(shape, "FunctionName")
	}
	if r.Deny != "" {
		ch.not = regexp.MustCompile(`\A(?:` + r.Deny + `)\z`)
	}
	if r.Enum != "" {
		ch.values = map[string]bool{}
		for v := range strings.SplitSeq(r.Enum, ", ") {
			ch.values[v] = true
		}
	}
	c.checks[shape] = ch
	return ch
}

// simpleName reports whether s is a plain function name, as nearly every
// request has it, which needs no regular expression to be found right.
func simpleName(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// maxViolations bounds how many violations are told. An input can have
// millions.
const maxViolations = 50

// violations collects what is wrong with an input. AWS reports all at once.
type violations struct {
	list    []string // the first maxViolations
	count   int
	path    []string // from the root to the value that is looked at
	instead string   // what is told in place of the list, or ""
	broken  func(path, constraint string) string
}

func (v *violations) push(segment string) { v.path = append(v.path, segment) }
func (v *violations) pop()                { v.path = v.path[:len(v.path)-1] }

// add notes that the value at the current path breaks a constraint. value is
// as it is shown; quoted, or null.
func (v *violations) add(value, constraint string) {
	if v.count++; v.count > maxViolations {
		return
	}
	path := strings.Join(v.path, ".")
	if v.broken != nil && v.instead == "" {
		v.instead = v.broken(path, constraint)
	}
	v.list = append(v.list, fmt.Sprintf("Value %sat '%s' failed to satisfy constraint: %s", value, path, constraint))
}

// quoted shows a value in a message, or hides a sensitive one.
func quoted(p *plan, value string) string {
	if p.sensitive {
		return ""
	}
	return "'" + value + "' "
}

// missing notes that a required member is not there.
func (v *violations) missing(name string) {
	v.push(name)
	v.add("null ", "Member must not be null")
	v.pop()
}

// fault is the answer, of the service's kind: nil when nothing is wrong.
func (v *violations) fault(kind firn.Kind) error {
	if v.instead != "" {
		return firn.Faultf(kind, "%s", v.instead)
	}
	switch n := v.count; n {
	case 0:
		return nil
	case 1:
		return firn.Faultf(kind, "1 validation error detected: %s", v.list[0])
	default:
		return firn.Faultf(kind, "%d validation errors detected: %s", n, strings.Join(v.list, "; "))
	}
}

// maxMatched bounds in bytes what a pattern is run over. AWS tells of the
// pattern besides the length; of a name of megabytes the length will do.
const maxMatched = 4096

// checkText checks a string.
func (v *violations) checkText(p *plan, semantic bool, s string) {
	c := p.check
	if c == nil || c.names && simpleName(s) {
		return
	}
	n := float64(utf8.RuneCountInString(s))
	if c.HasMin && n < c.Min {
		v.add(quoted(p, s), c.least("length"))
	}
	if c.HasMax && n > c.Max {
		v.add(quoted(p, s), c.most("length"))
		v.instead = cmp.Or(v.instead, c.TooLong)
	}
	if len(s) <= maxMatched && !c.matches(s) {
		v.add(quoted(p, s), c.regular())
	}
	if c.values != nil && !semantic && !c.values[s] {
		v.add(quoted(p, s), c.oneOf())
	}
}

// checkNumber checks a number, shown as text.
func (v *violations) checkNumber(p *plan, n float64, text string) {
	if c := p.check; c != nil {
		v.bounds(p, "value", n, text)
	}
}

// bounds checks a length or a value. text is the value in messages.
func (v *violations) bounds(p *plan, what string, n float64, text string) {
	if p.check.HasMin && n < p.check.Min {
		v.add(quoted(p, text), p.check.least(what))
	}
	if p.check.HasMax && n > p.check.Max {
		v.add(quoted(p, text), p.check.most(what))
	}
}

// satisfies reports whether an item or key fulfils all of a check.
func (c *check) satisfies(s string) bool {
	n := float64(utf8.RuneCountInString(s))
	return !(c.HasMin && n < c.Min) && !(c.HasMax && n > c.Max) && c.matches(s) && (c.values == nil || c.values[s])
}

// within reports whether a number is within the bounds.
func (c *check) within(n float64) bool {
	return !(c.HasMin && n < c.Min) && !(c.HasMax && n > c.Max)
}

func (c *check) matches(s string) bool {
	if c.re != nil && !c.re.MatchString(s) {
		return false
	}
	return c.not == nil || !c.not.MatchString(s)
}

// describe lists all constraints of an item or value, as AWS does when one of
// them is broken.
func (c *check) describe() string {
	return "[" + strings.Join(append(c.parts("length", plainNumber), "Member must not be null"), ", ") + "]"
}

// describeKey is the same of a key, which cannot be null.
func (c *check) describeKey() string {
	return "[" + strings.Join(c.parts("length", plainNumber), ", ") + "]"
}

// describeNumber is the same of a value that is a double.
func (c *check) describeNumber() string {
	return "[" + strings.Join(append(c.parts("value", double), "Member must not be null"), ", ") + "]"
}

func (c *check) parts(what string, show func(float64) string) []string {
	var parts []string
	if c.HasMax {
		parts = append(parts, "Member must have "+what+" less than or equal to "+show(c.Max))
	}
	if c.HasMin {
		parts = append(parts, "Member must have "+what+" greater than or equal to "+show(c.Min))
	}
	if c.Pattern != "" {
		parts = append(parts, c.regular())
	}
	if c.Enum != "" {
		parts = append(parts, c.oneOf())
	}
	return parts
}

// double shows a number as Java shows a double.
func double(f float64) string { return string(appendFraction(nil, f, 'f')) }

func (c *check) least(what string) string {
	return "Member must have " + what + " greater than or equal to " + plainNumber(c.Min)
}

func (c *check) most(what string) string {
	return "Member must have " + what + " less than or equal to " + plainNumber(c.Max)
}

func (c *check) regular() string {
	return "Member must satisfy regular expression pattern: " + c.Pattern
}

func (c *check) oneOf() string { return "Member must satisfy enum value set: [" + c.Enum + "]" }

func plainNumber(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
