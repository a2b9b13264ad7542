package invoke

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// wrong is a payload and what is wrong with it. Its words and places are those
// of the parser behind AWS's API (Jackson), which names most bytes by their own
// place and the ends of tokens by the place behind them, and does not quote the
// payload: recorded in November 2025.
type wrong struct {
	b   []byte
	i   int // of the byte that is wrong
	why string
}

// source stands where older answers quoted the payload.
const source = "[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: %d, column: %d]"

// explain says what is wrong and where.
func (w *wrong) explain() string {
	what, at := w.what()
	return what + "\n at " + w.place(at)
}

// what returns the words and the place that goes with them.
func (w *wrong) what() (string, int) {
	c := rune(w.at())
	switch {
	case w.why == badUTF8:
		return w.encoding(w.i)
	case w.i >= len(w.b):
		return "Unexpected end-of-input" + w.end(), len(w.b)
	case w.why == badControl:
		return fmt.Sprintf("Illegal unquoted character (%s): %s", show(c), badControl), w.i
	case w.why == badEscape:
		return "Unrecognized character escape " + show(c), w.i
	case w.why == badZero:
		return "Invalid numeric value: " + badZero, w.i
	case w.why == wantDigit, w.why == wantFraction, w.why == wantExponent:
		return fmt.Sprintf("Unexpected character (%s) in numeric value: %s", show(c), w.why), w.i
	case w.why == wantValue && startsToken(c):
		return w.token()
	case w.why == wantValue && c == '+':
		return w.plus()
	case (c == ']' || c == '}') && w.closes():
		return w.mismatched(), w.i
	case w.why == wantValue && (c == ',' || c == ']' || c == '}') && w.open() >= 0:
		return fmt.Sprintf("Unexpected character (%s): expected a value", show(c)), w.i
	}
	return fmt.Sprintf("Unexpected character (%s): %s", show(c), w.why), w.i
}

// place is a position in lines and columns of bytes.
func (w *wrong) place(at int) string {
	head := w.b[:at]
	lines := bytes.Count(head, []byte{'\n'}) + bytes.Count(head, []byte{'\r'}) - bytes.Count(head, []byte("\r\n"))
	return fmt.Sprintf(source, lines+1, at-bytes.LastIndexAny(head, "\r\n"))
}

// end says in the middle of what the payload ends.
func (w *wrong) end() string {
	switch w.why {
	case cutName:
		return " in field name"
	case cutColon:
		return " within/between Object entries"
	case cutText:
		return " in VALUE_STRING"
	case badEscape, badHex:
		return " in character escape sequence"
	case wantDigit, wantFraction, wantExponent:
		return " in a Number value"
	}
	open := w.open()
	if open < 0 {
		return ""
	}
	kind := "Array"
	if w.b[open] == '{' {
		kind = "Object"
	}
	if before := w.before(); before == ',' || before == ':' {
		return " within/between " + kind + " entries"
	}
	return fmt.Sprintf(": expected close marker for %s (start marker at %s)", kind, w.place(open))
}

// open is the place of the array or object that the wrong byte is in, or -1.
func (w *wrong) open() int {
	var nest []int
	for i := 0; i < min(w.i, len(w.b)); i++ {
		switch w.b[i] {
		case '"':
			for i++; i < len(w.b) && w.b[i] != '"'; i++ {
				if w.b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			nest = append(nest, i)
		case '}', ']':
			nest = nest[:len(nest)-1]
		}
	}
	if len(nest) == 0 {
		return -1
	}
	return nest[len(nest)-1]
}

// before is the byte before the wrong one, white space aside; 0 for none.
func (w *wrong) before() byte {
	head := bytes.TrimRight(w.b[:min(w.i, len(w.b))], " \t\r\n")
	if len(head) == 0 {
		return 0
	}
	return head[len(head)-1]
}

// closes says that a bracket stands where one may: behind a value or another
// that opens.
func (w *wrong) closes() bool {
	if w.why == wantObjComma || w.why == wantArrComma {
		return true
	}
	before := w.before()
	return (w.why == wantValue || w.why == wantName) && (before == '[' || before == '{')
}

// mismatched is about a bracket that closes what another has opened.
func (w *wrong) mismatched() string {
	kind, want, open := "Array", ']', w.open()
	if w.b[open] == '{' {
		kind, want = "Object", '}'
	}
	return fmt.Sprintf("Unexpected close marker '%c': expected '%c' (for %s starting at %s)", w.at(), want, kind, w.place(open))
}

// encoding is about bytes that are not UTF-8, from i on. A byte that begins a
// character is right itself: what is wrong comes behind it.
func (w *wrong) encoding(i int) (string, int) {
	n := 0
	switch c := w.b[i]; {
	case c&0xe0 == 0xc0:
		n = 1
	case c&0xf0 == 0xe0:
		n = 2
	case c&0xf8 == 0xf0:
		n = 3
	}
	for j := i + 1; j <= i+n && j < len(w.b); j++ {
		if w.b[j]&0xc0 != 0x80 {
			return fmt.Sprintf("Invalid UTF-8 middle byte 0x%x", w.b[j]), j + 1
		}
	}
	return fmt.Sprintf("Invalid UTF-8 start byte 0x%x", w.b[i]), i + 1
}

// at is the byte that is wrong; 0 at the end.
func (w *wrong) at() byte {
	if w.i < len(w.b) {
		return w.b[w.i]
	}
	return 0
}

// show renders a character in a message; those above 0xff do not come here.
func show(c rune) string {
	if unicode.IsControl(c) {
		return fmt.Sprintf("(CTRL-CHAR, code %d)", c)
	}
	return fmt.Sprintf("'%c' (code %d)", c, c)
}

// maxToken is where a word is no longer quoted.
const maxToken = 256

// token is about a word that is no JSON: it is quoted up to the first character
// that no identifier has, which has been read too.
func (w *wrong) token() (string, int) {
	var word strings.Builder
	word.WriteRune(rune(w.at()))
	i := w.i + 1
	for i < len(w.b) && word.Len() < maxToken {
		c, n := utf8.DecodeRune(w.b[i:])
		if c == utf8.RuneError && n == 1 {
			return w.encoding(i)
		}
		i += n
		if !inToken(c) {
			break
		}
		word.WriteRune(c)
	}
	text := word.String()
	if len(text) >= maxToken {
		text += "..."
	}
	switch text {
	case "NaN", "INF", "Infinity":
		return fmt.Sprintf("Non-standard token '%s': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow", text), i
	}
	return fmt.Sprintf("Unrecognized token '%s': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')", text), i
}

// plus is about a sign that JSON has no use for.
func (w *wrong) plus() (string, int) {
	if w.i+1 == len(w.b) {
		return "Unexpected end-of-input in a Number value", w.i + 1
	}
	return fmt.Sprintf("Unexpected character (%s) in numeric value: JSON spec does not allow numbers to have plus signs: enable `JsonReadFeature.ALLOW_LEADING_PLUS_SIGN_FOR_NUMBERS` to allow", show('+')), w.i
}

// startsToken and inToken tell the characters of words, as Java has them in
// identifiers.
func startsToken(c rune) bool {
	return unicode.IsLetter(c) || c == '_' || unicode.Is(unicode.Sc, c)
}

func inToken(c rune) bool { return startsToken(c) || unicode.IsDigit(c) }
