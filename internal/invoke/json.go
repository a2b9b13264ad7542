package invoke

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"github.com/firn-run/firn"
)

// maxDepth is how deep arrays and objects may be nested: what encoding/json
// allows, far above any event.
const maxDepth = 10_000

// checkJSON refuses a payload that is not one JSON value in UTF-8 (RFC 8259).
// It runs for every invocation, over up to 6 MB, and so does not use
// encoding/json, whose Valid steps a function per byte: 25 ms for 6 MB.
//
// The words of the refusal are those of the parser behind AWS's API.
func checkJSON(payload []byte) error {
	if len(payload) == 0 {
		return nil
	}
	end, why, wide := scan(payload)
	if wide {
		// The end of a text that is JSON, or the part that was read of another.
		if i, bad := checkUTF8(payload[:min(end, len(payload))]); bad != "" {
			end, why = i, bad
		}
	}
	if why == "" {
		return nil
	}
	w := wrong{b: payload, i: end, why: why}
	return firn.Faultf(firn.InvalidRequestContent, "Could not parse request body into json: Could not parse payload into json: %s", w.explain())
}

// What can be wrong, in the words of the refusal where it has no others; see
// explain.
const (
	wantValue    = "expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
	wantName     = "was expecting double-quote to start field name"
	wantColon    = "was expecting a colon to separate field name and value"
	wantObjComma = "was expecting comma to separate Object entries"
	wantArrComma = "was expecting comma to separate Array entries"
	wantDigit    = "expected digit (0-9) to follow minus sign, for valid numeric value"
	wantFraction = "Decimal point not followed by a digit"
	wantExponent = "Exponent indicator not followed by a digit"
	wantSpace    = "Expected space separating root-level values"
	wantEnd      = "expected the end of the payload"
	badZero      = "Leading zeroes not allowed"
	badControl   = "has to be escaped using backslash to be included in string value"
	badEscape    = "is no character escape"
	badHex       = "expected a hex-digit for character escape sequence"
	badDepth     = "is nested deeper than allowed"
	badUTF8      = "is not UTF-8"
	cut          = "ends between tokens"
	cutName      = "ends in a name"
	cutColon     = "ends after a name"
	cutText      = "ends in a string"
)

// levels remembers, for every level of nesting, whether it is an object: bit n
// of the whole is level n.
type levels [maxDepth/64 + 1]uint64

func (l *levels) set(n int, object bool) {
	bit := uint64(1) << (n % 64)
	if object {
		l[n/64] |= bit
	} else {
		l[n/64] &^= bit
	}
}

func (l *levels) object(n int) bool { return l[n/64]>>(n%64)&1 != 0 }

// scan checks one JSON text in one pass, without recursion. It returns where
// it stopped, what was wrong there ("" when nothing is), and whether strings
// hold bytes beyond ASCII, which are still to be checked.
func scan(b []byte) (i int, why string, wide bool) {
	var nest levels
	depth := 0
	for {
		i = skip(b, i)
		if i == len(b) {
			return i, cut, wide
		}
		c := b[i]
		switch {
		case c == '"':
			i, why, wide = text(b, i+1, wide)
		case c == '{', c == '[':
			if depth == maxDepth {
				return i, badDepth, wide
			}
			i = skip(b, i+1)
			if i < len(b) && b[i] == c+2 { // ']' is '[' + 2, '}' is '{' + 2
				i++
				break
			}
			depth++
			nest.set(depth, c == '{')
			if c == '{' {
				i, why, wide = name(b, i, wide)
			}
			if why != "" {
				return i, why, wide
			}
			continue // with the first value inside
		case c == '-', c-'0' <= 9:
			i, why = number(b, i)
		default:
			i, why = word(b, i)
		}
		// A value is complete. It may end others; then the next one begins.
		end := i
		for more := false; !more; {
			if why != "" {
				return i, why, wide
			}
			i = skip(b, i)
			if depth == 0 {
				return i, trailing(b, end, i), wide
			}
			if i == len(b) {
				return i, cut, wide
			}
			object := nest.object(depth)
			switch c := b[i]; {
			case c == ',':
				i++
				more = true
				if object {
					i, why, wide = name(b, skip(b, i), wide)
					more = why == ""
				}
			case c == '}' && object, c == ']' && !object:
				i++
				depth--
			case object:
				why = wantObjComma
			default:
				why = wantArrComma
			}
		}
	}
}

// trailing looks behind the text, whose last byte is before end.
func trailing(b []byte, end, i int) string {
	switch {
	case i == len(b):
		return ""
	case i == end && b[end-1]-'0' <= 9: // a number ends at a space
		return wantSpace
	}
	return wantEnd
}

// skip passes over white space.
func skip(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// name checks the name of a member and the colon.
func name(b []byte, i int, wide bool) (int, string, bool) {
	if i == len(b) {
		return i, cut, wide
	}
	if b[i] != '"' {
		return i, wantName, wide
	}
	i, why, wide := text(b, i+1, wide)
	if why == cutText {
		why = cutName
	}
	if why != "" {
		return i, why, wide
	}
	i = skip(b, i)
	switch {
	case i == len(b):
		return i, cutColon, wide
	case b[i] != ':':
		return i, wantColon, wide
	}
	return i + 1, "", wide
}

// text checks a string from after its first quote to after its last. Eight
// bytes at a time: each expression sets the high bit of the bytes that it is
// about ("Determine if a word has a byte less than n", Bit Twiddling Hacks).
// A borrow can mark a byte too many, but only above one that is rightly
// marked, and the lowest is the one that counts.
func text(b []byte, i int, wide bool) (int, string, bool) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			quote, slash := w^('"'*ones), w^('\\'*ones)
			marked := ((quote-ones)&^quote | (slash-ones)&^slash | (w-' '*ones)&^w) & highs
			n := bits.TrailingZeros64(marked) &^ 7 // 64 when there is none
			if w&highs&(1<<n-1) != 0 {
				wide = true
			}
			i += n / 8
			if marked != 0 {
				break
			}
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' {
			wide = wide || b[i] >= utf8.RuneSelf
			i++
		}
		switch {
		case i == len(b):
			return i, cutText, wide
		case b[i] == '"':
			return i + 1, "", wide
		case b[i] != '\\':
			return i, badControl, wide
		}
		n, why := escape(b[i+1:])
		i += 1 + n
		if why != "" {
			return i, why, wide
		}
	}
}

// escape checks the escape that b begins with, after the backslash: it returns
// its length, or the place of what is wrong with it.
func escape(b []byte) (int, string) {
	if len(b) == 0 {
		return 0, badEscape
	}
	switch b[0] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 1, ""
	case 'u':
		for n := 1; n < 5; n++ {
			if n == len(b) {
				return n, badHex
			}
			if c := b[n]; !('0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f') {
				return n, badHex
			}
		}
		return 5, ""
	}
	return 0, badEscape
}

// number checks a number.
func number(b []byte, i int) (int, string) {
	if b[i] == '-' {
		i++
	}
	end := digits(b, i)
	switch {
	case end == i:
		return i, wantDigit
	case b[i] == '0' && end > i+1:
		return i + 1, badZero
	}
	i = end
	if i < len(b) && b[i] == '.' {
		if end = digits(b, i+1); end == i+1 {
			return end, wantFraction
		}
		i = end
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if end = digits(b, i); end == i {
			return end, wantExponent
		}
		i = end
	}
	return i, ""
}

// digits passes over decimal digits.
func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// word checks one of the three literal names.
func word(b []byte, i int) (int, string) {
	want := "null"
	switch b[i] {
	case 't':
		want = "true"
	case 'f':
		want = "false"
	}
	end := i + len(want)
	if len(b) < end || string(b[i:end]) != want || end < len(b) && inToken(rune(b[end])) {
		return i, wantValue
	}
	return end, ""
}

// checkUTF8 checks the encoding of a text that is JSON otherwise.
func checkUTF8(b []byte) (i int, why string) {
	if utf8.Valid(b) {
		return len(b), ""
	}
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		i += n
	}
	return i, badUTF8
}
