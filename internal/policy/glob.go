package policy

import "strings"

// glob is a pattern taken apart: runes, and the two wildcards as negative
// numbers, so that what a variable brought in is never a wildcard.
type glob []rune

const (
	anyRun rune = -1 // "*"
	anyOne rune = -2 // "?"
)

// plainGlob reads a pattern that has no variables.
func plainGlob(pattern string) glob {
	g := make(glob, 0, len(pattern))
	for _, r := range pattern {
		switch r {
		case '*':
			r = anyRun
		case '?':
			r = anyOne
		}
		g = append(g, r)
	}
	return g
}

// literal reads text without wildcards.
func literal(text string) glob { return glob(text) }

// expand reads a pattern with policy variables. ok is false when one of them
// cannot be resolved: then the pattern matches nothing.
func expand(pattern string, c Context, variables bool) (g glob, ok bool) {
	if !variables || !strings.Contains(pattern, "${") {
		return plainGlob(pattern), true
	}
	for {
		before, rest, found := strings.Cut(pattern, "${")
		g = append(g, plainGlob(before)...)
		if !found {
			return g, true
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return append(g, literal("${"+rest)...), true
		}
		value, ok := resolve(name, c)
		if !ok {
			return nil, false
		}
		g, pattern = append(g, literal(value)...), after
	}
}

// resolve finds the value of a variable: a special character, a condition key
// with a single value, or the default that stands behind the key.
func resolve(name string, c Context) (string, bool) {
	switch name {
	case "*", "?", "$":
		return name, true
	}
	key, fallback, has := strings.Cut(name, ",")
	if values := c.get(strings.TrimSpace(key)); len(values) == 1 {
		return values[0], true
	}
	fallback = strings.TrimSpace(fallback)
	if n := len(fallback); has && n >= 2 && fallback[0] == '\'' && fallback[n-1] == '\'' {
		return fallback[1 : n-1], true
	}
	return "", false
}

// match reports whether the whole text is of the pattern. Its time is at most
// the product of both lengths.
func (g glob) match(text string) bool {
	s := []rune(text)
	i, j := 0, 0
	star, resume := -1, 0
	for j < len(s) {
		switch {
		case i < len(g) && g[i] == anyRun:
			star, resume = i, j
			i++
		case i < len(g) && (g[i] == anyOne || g[i] == s[j]):
			i, j = i+1, j+1
		case star >= 0:
			resume++
			i, j = star+1, resume
		default:
			return false
		}
	}
	for i < len(g) && g[i] == anyRun {
		i++
	}
	return i == len(g)
}

// text is the pattern without its wildcards' meaning.
func (g glob) text() string {
	var b strings.Builder
	for _, r := range g {
		switch r {
		case anyRun:
			r = '*'
		case anyOne:
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// segments cuts a pattern at its first five colons.
func (g glob) segments() []glob {
	var out []glob
	start := 0
	for i, r := range g {
		if r == ':' && len(out) < arnParts-1 {
			out = append(out, g[start:i])
			start = i + 1
		}
	}
	return append(out, g[start:])
}
