package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// defaultType is the content type of an answer that names none.
const defaultType = "application/json"

// answer is the HTTP response that a function meant.
type answer struct {
	status  int
	header  http.Header // canonical names; values have been checked
	cookies []string
	body    []byte
	length  int // of body, or -1 when it is not known yet
}

// headers adds those of the answer to h. What the front writes itself is
// renamed, as AWS's does, and what is about the connection left out.
func (a *answer) headers(h http.Header) {
	for name, values := range a.header {
		lower := strings.ToLower(name)
		switch {
		case ofConnection(lower) && lower != "connection", lower == "expect":
		case remapped(lower):
			h[remapPrefix+lower] = values
		default:
			h[name] = append(h[name], values...)
		}
	}
	for _, c := range a.cookies {
		h.Add("Set-Cookie", c)
	}
	if h["Content-Type"] == nil && bodyAllowed(a.status) {
		h["Content-Type"] = []string{defaultType}
	}
}

// remapPrefix is put before headers that a function may not set.
const remapPrefix = "x-amzn-Remapped-"

// remapped reports whether a header is renamed: content-length, date, server
// and www-authenticate were recorded from function URLs, the others are those
// that API Gateway's documents list for its proxy integrations.
func remapped(lower string) bool {
	switch lower {
	case "content-length", "date", "server", "www-authenticate",
		"authorization", "connection", "content-md5", "host", "max-forwards", "proxy-authenticate", "user-agent",
		"x-amzn-requestid", "x-amzn-trace-id":
		return true
	}
	return false
}

// response is a function's response with a statusCode, or the prelude of a
// stream. AWS's reader turns scalars into one another ("418" was recorded as a
// status), and so do the types here.
type response struct {
	status  *number
	headers map[string]*text
	cookies []*text
	body    json.RawMessage
	base64  truth
}

// parseResponse reads a JSON object, whose members only have to be right when
// it is a prelude or has a statusCode. Names have a case here, unlike with
// package json's structs: a function may well return somebody else's
// StatusCode.
func parseResponse(b []byte, prelude bool) (*response, error) {
	r := &response{}
	var status, headers, cookies, base64 json.RawMessage
	err := members(b, func(name string, value []byte) error {
		switch name {
		case "statusCode":
			status = value
		case "headers":
			headers = value
		case "cookies":
			cookies = value
		case "isBase64Encoded":
			base64 = value
		case "body":
			r.body = value
		default:
			if !json.Valid(value) {
				return errNotJSON
			}
		}
		return nil
	})
	if err != nil || status == nil && !prelude {
		return r, err
	}
	for _, m := range []struct {
		name string
		raw  json.RawMessage
		into any
	}{{"statusCode", status, &r.status}, {"headers", headers, &r.headers}, {"cookies", cookies, &r.cookies}, {"isBase64Encoded", base64, &r.base64}} {
		if m.raw == nil {
			continue
		}
		if err := json.Unmarshal(m.raw, m.into); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return r, nil
}

// number is a JSON number, or a string that holds one.
type number int

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	v, err := strconv.Atoi(s)
	if err != nil {
		f, ferr := strconv.ParseFloat(s, 64)
		if ferr != nil || f != float64(int(f)) {
			return fmt.Errorf("%.40q is not a status code", b)
		}
		v = int(f)
	}
	*n = number(v)
	return nil
}

// text is a JSON string, or another scalar as it is written.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*t = text(s)
		return nil
	}
	if b[0] == '{' || b[0] == '[' {
		return errors.New("a header or cookie is not text")
	}
	*t = text(b)
	return nil
}

// truth is a JSON boolean, or a string that holds one.
type truth bool

// UnmarshalJSON implements json.Unmarshaler.
func (t *truth) UnmarshalJSON(b []byte) error {
	switch strings.ToLower(strings.Trim(string(b), `"`)) {
	case "true":
		*t = true
	case "false", "null", "":
		*t = false
	default:
		return fmt.Errorf("isBase64Encoded is %.40q", b)
	}
	return nil
}

// parseAnswer reads what a function returned. With a statusCode it is a
// response; any other JSON value is the body of a response with status 200,
// compacted, and a string without its quotes: so it was recorded, while the
// documents show the quotes.
func parseAnswer(payload []byte) (*answer, error) {
	b := bytes.TrimSpace(payload)
	if len(b) == 0 {
		return nil, errNotJSON
	}
	if b[0] == '{' {
		r, err := parseResponse(b, false)
		if err != nil {
			return nil, err
		}
		if r.status != nil {
			return r.answer()
		}
	}
	body, err := plain(b)
	return &answer{status: http.StatusOK, body: body, length: len(body)}, err
}

// answer checks a response and decodes its body.
func (r *response) answer() (*answer, error) {
	a, err := r.begin()
	if err != nil {
		return nil, err
	}
	if len(r.body) > 0 && string(r.body) != "null" {
		if a.body, err = plain(r.body); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
	}
	if r.base64 && len(a.body) > 0 {
		if a.body, err = decodeBase64(a.body); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
	}
	a.length = len(a.body)
	return a, nil
}

// begin checks status, headers and cookies.
func (r *response) begin() (*answer, error) {
	a := &answer{status: http.StatusOK, header: make(http.Header, len(r.headers)), length: -1}
	if r.status != nil {
		a.status = int(*r.status)
	}
	if a.status < 200 || a.status > 599 {
		return nil, fmt.Errorf("status code %d", a.status)
	}
	for name, value := range r.headers {
		if value == nil {
			continue
		}
		v := strings.Trim(string(*value), " \t")
		if !isToken(name) || !isValue(v) {
			return nil, fmt.Errorf("header %.40q", name)
		}
		a.header.Add(name, v)
	}
	for _, c := range r.cookies {
		if c == nil {
			continue
		}
		if !isValue(string(*c)) {
			return nil, errors.New("a cookie has characters that headers do not have")
		}
		a.cookies = append(a.cookies, string(*c))
	}
	return a, nil
}

// decodeBase64 accepts base64 with and without padding.
func decodeBase64(b []byte) ([]byte, error) {
	b = bytes.TrimRight(bytes.TrimSpace(b), "=")
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(b)))
	n, err := base64.RawStdEncoding.Decode(out, b)
	return out[:n], err
}

// isToken reports whether s can be the name of a header (RFC 9110, token).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// isValue reports whether s can be the value of a header: no control
// characters but tab.
func isValue(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// setLength declares the length of a body. The key is written as net/http
// knows it.
func setLength(h http.Header, n int) { h["Content-Length"] = []string{strconv.Itoa(n)} }
