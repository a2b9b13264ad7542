package policy

import (
	"bytes"
	"encoding/base64"
	"math/big"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Condition is one operator on one key of a Condition element.
type Condition struct {
	Operator string // "StringLike", without the prefix and suffix below
	// Set is "ForAllValues", "ForAnyValue" or "".
	Set string
	// IfExists: the condition holds when the key is missing.
	IfExists bool
	Key      string
	Values   []string

	test operator
}

// operator compares one value of a request with one of the policy.
type operator struct {
	// matches is never asked about the values of Null.
	matches func(value string, want glob) bool
	// negated: the operator holds when nothing matches.
	negated bool
	// variables may stand in the values.
	variables bool
}

// operators are all comparisons of the language, by lower-case name ("IAM
// JSON policy elements: Condition operators").
func operators() map[string]operator {
	return map[string]operator{
		"stringequals":              {equal, false, true},
		"stringnotequals":           {equal, true, true},
		"stringequalsignorecase":    {equalFold, false, true},
		"stringnotequalsignorecase": {equalFold, true, true},
		"stringlike":                {like, false, true},
		"stringnotlike":             {like, true, true},
		"numericequals":             {numeric(func(c int) bool { return c == 0 }), false, false},
		"numericnotequals":          {numeric(func(c int) bool { return c == 0 }), true, false},
		"numericlessthan":           {numeric(func(c int) bool { return c < 0 }), false, false},
		"numericlessthanequals":     {numeric(func(c int) bool { return c <= 0 }), false, false},
		"numericgreaterthan":        {numeric(func(c int) bool { return c > 0 }), false, false},
		"numericgreaterthanequals":  {numeric(func(c int) bool { return c >= 0 }), false, false},
		"dateequals":                {date(func(c int) bool { return c == 0 }), false, false},
		"datenotequals":             {date(func(c int) bool { return c == 0 }), true, false},
		"datelessthan":              {date(func(c int) bool { return c < 0 }), false, false},
		"datelessthanequals":        {date(func(c int) bool { return c <= 0 }), false, false},
		"dategreaterthan":           {date(func(c int) bool { return c > 0 }), false, false},
		"dategreaterthanequals":     {date(func(c int) bool { return c >= 0 }), false, false},
		"bool":                      {equalFold, false, false},
		"binaryequals":              {binaryEqual, false, false},
		"ipaddress":                 {inNetwork, false, false},
		"notipaddress":              {inNetwork, true, false},
		"arnequals":                 {arnLike, false, true},
		"arnlike":                   {arnLike, false, true},
		"arnnotequals":              {arnLike, true, true},
		"arnnotlike":                {arnLike, true, true},
		"null":                      {},
	}
}

// holds reports whether the condition is true for a request.
func (cond *Condition) holds(c Context, variables bool) bool {
	values := c.get(cond.Key)
	if cond.Operator == operatorNull {
		missing := strconv.FormatBool(len(values) == 0)
		for _, want := range cond.Values {
			if strings.EqualFold(want, missing) {
				return true
			}
		}
		return false
	}
	if len(values) == 0 {
		switch {
		case cond.IfExists, cond.Set == forAllValues:
			return true
		case cond.Set == forAnyValue:
			return false
		}
		return cond.test.negated
	}
	wants := cond.wants(c, variables)
	for _, value := range values {
		hit := false
		for _, want := range wants {
			if hit = cond.test.matches(value, want); hit {
				break
			}
		}
		good := hit != cond.test.negated
		switch all := cond.Set == forAllValues || cond.Set == "" && cond.test.negated; {
		case all && !good:
			return false
		case !all && good:
			return true
		}
	}
	return cond.Set == forAllValues || cond.Set == "" && cond.test.negated
}

// wants are the policy's values; those with variables that cannot be resolved
// match nothing and are left out.
func (cond *Condition) wants(c Context, variables bool) []glob {
	out := make([]glob, 0, len(cond.Values))
	for _, value := range cond.Values {
		if g, ok := expand(value, c, variables && cond.test.variables); ok {
			out = append(out, g)
		}
	}
	return out
}

func equal(value string, want glob) bool     { return value == want.text() }
func equalFold(value string, want glob) bool { return strings.EqualFold(value, want.text()) }
func like(value string, want glob) bool      { return want.match(value) }

// decimal is a number of the language: digits, perhaps with a point.
var decimal = regexp.MustCompile(`^[+-]?\d{1,40}(?:\.\d{1,40})?$`)

func numeric(accept func(cmp int) bool) func(string, glob) bool {
	return func(value string, want glob) bool {
		a, okA := number(value)
		b, okB := number(want.text())
		return okA && okB && accept(a.Cmp(b))
	}
}

func number(s string) (*big.Rat, bool) {
	if !decimal.MatchString(s) {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

func date(accept func(cmp int) bool) func(string, glob) bool {
	return func(value string, want glob) bool {
		a, okA := moment(value)
		b, okB := moment(want.text())
		return okA && okB && accept(a.Compare(b))
	}
}

// moment reads a date: one of the W3C's forms of ISO 8601, or seconds since
// 1970.
func moment(s string) (time.Time, bool) {
	if seconds, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(seconds, 0), true
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func binaryEqual(value string, want glob) bool {
	a, errA := base64.StdEncoding.DecodeString(value)
	b, errB := base64.StdEncoding.DecodeString(want.text())
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

func inNetwork(value string, want glob) bool {
	addr, err := netip.ParseAddr(value)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	text := want.text()
	if network, err := netip.ParsePrefix(text); err == nil {
		return network.Masked().Contains(addr)
	}
	single, err := netip.ParseAddr(text)
	return err == nil && single.Unmap() == addr
}

// arnParts are the parts of an ARN; the last may have colons of its own.
const arnParts = 6

// arnLike compares ARNs part by part: a wildcard does not reach over a colon,
// except in the last part.
func arnLike(value string, want glob) bool {
	have := strings.SplitN(value, ":", arnParts)
	parts := want.segments()
	if len(have) != arnParts || len(parts) != arnParts || have[0] != "arn" {
		return false
	}
	for i, part := range parts {
		if !part.match(have[i]) {
			return false
		}
	}
	return true
}
