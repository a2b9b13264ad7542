package runtimeapi

import (
	"bytes"
	"errors"
	"strconv"
)

// Errors of parsing. Each is answered with the status and text that net/http
// would send (the AWS service is written with it), and the connection closed.
var (
	errBadRequest   = errors.New("400 Bad Request")
	errMissingHost  = errors.New("400 Bad Request: missing required Host header")
	errTooManyHosts = errors.New("400 Bad Request: too many Host headers")
	errHeadTooLarge = errors.New("431 Request Header Fields Too Large")
	errEncoding     = errors.New("501 Not Implemented: unsupported transfer encoding")
	errVersion      = errors.New("505 HTTP Version Not Supported")
)

// head is a parsed request line with the headers that matter here. The slices
// point into the parsed bytes and are valid as long as those.
type head struct {
	method, path []byte

	http10    bool
	close     bool  // the connection ends after this exchange
	length    int64 // Content-Length; 0 when absent
	chunked   bool
	expect    bool // Expect: 100-continue
	hosts     int
	hasLength bool

	contentType    []byte
	authorization  []byte
	responseMode   []byte // Lambda-Runtime-Function-Response-Mode
	errorType      []byte // Lambda-Runtime-Function-Error-Type
	extName        []byte // Lambda-Extension-Name
	extFeature     []byte // Lambda-Extension-Accept-Feature
	extID          []byte // Lambda-Extension-Identifier
	extErrorType   []byte // Lambda-Extension-Function-Error-Type
	keepAliveAsked bool
}

// hasBody says that bytes of a body follow, or may.
func (h *head) hasBody() bool { return h.chunked || h.length > 0 }

// headEnd returns the length of the head at the beginning of p, with its empty
// line, or 0 when it is not complete. Bytes before from were searched already.
// Lines end with LF or CRLF, as net/http accepts them.
func headEnd(p []byte, from int) int {
	for i := max(0, from); i < len(p); i++ {
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n
		switch {
		case i+1 < len(p) && p[i+1] == '\n':
			return i + 2
		case i+2 < len(p) && p[i+1] == '\r' && p[i+2] == '\n':
			return i + 3
		}
	}
	return 0
}

// parse reads a complete head, whose end headEnd has found.
func (h *head) parse(p []byte) error {
	*h = head{}
	line, p := cutLine(p)
	if err := h.parseRequestLine(line); err != nil {
		return err
	}
	for {
		line, p = cutLine(p)
		if len(line) == 0 {
			break
		}
		if err := h.parseHeader(line); err != nil {
			return err
		}
	}
	return h.check()
}

// check judges the headers together.
func (h *head) check() error {
	switch {
	case h.hosts > 1:
		return errTooManyHosts
	case h.hosts == 0 && !h.http10:
		return errMissingHost
	case h.chunked && (h.hasLength || h.http10):
		return errBadRequest // RFC 9112, 6.1: a sign of smuggling
	}
	if h.http10 && !h.keepAliveAsked {
		h.close = true
	}
	return nil
}

// cutLine splits p after its first LF and takes the line's end off.
func cutLine(p []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(p, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'}), rest
}

func (h *head) parseRequestLine(line []byte) error {
	method, rest, ok1 := bytes.Cut(line, []byte{' '})
	target, version, ok2 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !isToken(method) || len(target) == 0 {
		return errBadRequest
	}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.http10 = true
	default:
		if !bytes.HasPrefix(version, []byte("HTTP/")) {
			return errBadRequest
		}
		return errVersion
	}
	for _, c := range target {
		if c <= ' ' || c == 0x7f {
			return errBadRequest
		}
	}
	h.method, h.path = method, pathOf(target)
	return nil
}

// pathOf takes the query off, and scheme and authority of the absolute form.
func pathOf(target []byte) []byte {
	if target[0] != '/' {
		if _, rest, ok := bytes.Cut(target, []byte("://")); ok {
			i := bytes.IndexByte(rest, '/')
			if i < 0 {
				return []byte{'/'}
			}
			target = rest[i:]
		}
	}
	path, _, _ := bytes.Cut(target, []byte{'?'})
	return path
}

func (h *head) parseHeader(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || !isToken(name) { // a folded line begins with a blank: no token
		return errBadRequest
	}
	value = bytes.Trim(value, " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return errBadRequest
		}
	}
	// The length decides first: most headers cost no comparison.
	switch len(name) {
	case len("host"):
		if equalFold(name, "host") {
			h.hosts++
		}
	case len("expect"):
		if equalFold(name, "expect") && equalFold(value, "100-continue") && !h.http10 {
			h.expect = true
		}
	case len("connection"):
		if equalFold(name, "connection") {
			h.parseConnection(value)
		}
	case len("content-type"):
		if equalFold(name, "content-type") {
			h.contentType = value
		}
	case len("authorization"):
		if equalFold(name, "authorization") && h.authorization == nil {
			h.authorization = value
		}
	case len("content-length"):
		if equalFold(name, "content-length") {
			return h.parseLength(value)
		}
	case len("transfer-encoding"):
		if equalFold(name, "transfer-encoding") {
			if h.chunked || !equalFold(value, "chunked") {
				return errEncoding
			}
			h.chunked = true
		}
	default:
		h.parseLambdaHeader(name, value)
	}
	return nil
}

// parseLambdaHeader keeps the headers of the APIs; the first of several equal
// ones counts, as with net/http's Get.
func (h *head) parseLambdaHeader(name, value []byte) {
	const prefix = "lambda-"
	if len(name) <= len(prefix) || !equalFold(name[:len(prefix)], prefix) {
		return
	}
	var to *[]byte
	switch {
	case equalFold(name, "lambda-runtime-function-response-mode"):
		to = &h.responseMode
	case equalFold(name, "lambda-runtime-function-error-type"):
		to = &h.errorType
	case equalFold(name, "lambda-extension-name"):
		to = &h.extName
	case equalFold(name, "lambda-extension-accept-feature"):
		to = &h.extFeature
	case equalFold(name, "lambda-extension-identifier"):
		to = &h.extID
	case equalFold(name, "lambda-extension-function-error-type"):
		to = &h.extErrorType
	}
	if to != nil && *to == nil {
		*to = value
	}
}

func (h *head) parseConnection(value []byte) {
	for option := range bytes.SplitSeq(value, []byte{','}) {
		option = bytes.Trim(option, " \t")
		switch {
		case equalFold(option, "close"):
			h.close = true
		case equalFold(option, "keep-alive"):
			h.keepAliveAsked = true
		}
	}
}

func (h *head) parseLength(value []byte) error {
	if len(value) == 0 || len(value) > 18 {
		return errBadRequest
	}
	for _, c := range value { // ParseInt would take a sign
		if c < '0' || c > '9' {
			return errBadRequest
		}
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || h.hasLength && n != h.length {
		return errBadRequest
	}
	h.length, h.hasLength = n, true
	return nil
}

// equalFold compares with a lower-case ASCII string.
func equalFold(p []byte, lower string) bool {
	if len(p) != len(lower) {
		return false
	}
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// isToken checks a method or header name (RFC 9110, 5.6.2).
func isToken(p []byte) bool {
	for _, c := range p {
		switch {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return false
		}
	}
	return len(p) > 0
}
