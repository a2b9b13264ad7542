package timeline

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ms writes a duration for people: three significant digits at least, in
// milliseconds below a minute, with a comma at the thousands.
func ms(d Offset) string {
	v := float64(d) / float64(time.Millisecond)
	switch {
	case v >= 60_000:
		return strconv.FormatFloat(v/1000, 'f', 1, 64) + " s"
	case v >= 99.95:
		whole := strconv.FormatInt(int64(v+0.5), 10)
		if n := len(whole); n > 3 {
			whole = whole[:n-3] + "," + whole[n-3:]
		}
		return whole + " ms"
	case v >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(v, 'f', 2, 64) + " ms"
}

// maxName is how long a name may be that a function or an extension chose, in
// runes.
const maxName = 64

// clean makes a name that comes from outside fit to be shown: no control
// characters, no invisible ones, and not too long.
func clean(s string) string {
	if len(s) > 4*maxName {
		s = s[:4*maxName]
	}
	return cut(printable(s), maxName)
}

// printable replaces what does not print.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // nor is what is not UTF-8
			return '�'
		}
		return r
	}, s)
}

// cut shortens a text to n runes.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	if n <= 1 {
		return strings.Repeat("…", max(0, n))
	}
	return string([]rune(s)[:n-1]) + "…"
}

// ms3 writes a number with up to three decimals, and a comma at the thousands.
func ms3(v float64) string {
	s := strconv.FormatFloat(float64(int64(v*1000+0.5))/1000, 'f', -1, 64)
	whole, _, _ := strings.Cut(s, ".")
	if n := len(whole); n > 3 && n <= 6 {
		s = s[:n-3] + "," + s[n-3:]
	}
	return s
}

// String writes a duration for people.
func (o Offset) String() string { return ms(o) }
