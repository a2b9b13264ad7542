package runtimeapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/firn-run/firn/internal/lifecycle"
)

// serveRequest serves the request whose head was read. It returns false when
// the connection is over.
func (c *conn) serveRequest() bool {
	body := newBodyReader(&c.in, &c.head)
	r, method, id := findRoute(c.head.path)
	switch {
	case r == routeUnknown, c.server.cfg.NoExtensions && r.ofExtensions():
		c.writeNotFound(r != routeUnknown)
	case string(c.head.method) != method && r == routeMetadata:
		c.writeStatus(405, "Allow: "+method+"\r\n")
	case string(c.head.method) != method:
		c.writeNotAllowed(method)
	default:
		if !c.serveRoute(r, id, &body) {
			return false
		}
	}
	return c.finish(&body)
}

// finish makes the connection ready for its next request: what is left of the
// body is read and thrown away. A client that waits for a 100 it never got
// sends no body, so that nobody knows what comes next; it is closed.
func (c *conn) finish(body *bodyReader) bool {
	if body.ended || c.broken {
		return !c.broken && !c.isClosing()
	}
	if c.head.expect {
		c.linger()
		return false
	}
	if err := body.drain(); err != nil {
		c.linger()
		return false
	}
	return !c.isClosing()
}

// serveRoute serves one endpoint. It returns false when the peer is gone.
func (c *conn) serveRoute(r route, id []byte, body *bodyReader) bool {
	switch r {
	case routePing:
		c.writePlain("pong")
	case routeMetadata:
		c.serveMetadata()
	case routeNext:
		c.server.awaitResponse()
		return c.call("", func(call lifecycle.Call) lifecycle.Event { return lifecycle.RuntimeNext{Call: call} })
	case routeResponse:
		return c.serveResponse(id, body)
	case routeError, routeInitError:
		return c.serveRuntimeError(r, id, body)
	case routeRegister:
		return c.serveRegister(body)
	case routeExtensionNext:
		ext, ok := c.extensionID()
		return !ok || c.call(ext, func(call lifecycle.Call) lifecycle.Event {
			return lifecycle.ExtensionNext{Call: call, ID: ext}
		})
	case routeExtensionInitError, routeExtensionExitError:
		return c.serveExtensionError(r, body)
	case routeTelemetry:
		return c.serveSubscription(lifecycle.TelemetryAPI, body)
	case routeLogs:
		return c.serveSubscription(lifecycle.LogsAPI, body)
	}
	return true
}

// call hands over an event of a request whose body is read or has none, and
// waits for the reply. ext is as with begin.
func (c *conn) call(ext string, event func(lifecycle.Call) lifecycle.Event) bool {
	call := c.begin(ext)
	c.server.cfg.Handler.Handle(event(call), call, nil)
	return c.await(call)
}

// readSmallBody reads the body of an error or a registration. It answers what
// is too large; then, and when the peer is gone, ok is false and alive says
// whether the connection goes on.
func (c *conn) readSmallBody(body *bodyReader) (p []byte, ok, alive bool) {
	if c.head.length > maxErrorBytes {
		c.writeTooLarge()
		return nil, false, true
	}
	if c.head.chunked || c.head.length > largeBytes {
		c.takeBig()
	}
	c.sendContinue(body)
	b, err := body.readInto(c.server.cfg.Buffers.get(int(c.head.length)), maxErrorBytes)
	defer func() { b.Release() }()
	switch {
	case errors.Is(err, errBodyTooLarge):
		c.writeTooLarge()
		return nil, false, true
	case err != nil:
		c.closeAfterReply()
		c.writeError(400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
		return nil, false, false
	}
	return bytes.Clone(b.data), true, true
}

// errorWithCause is the content type of an error that carries an X-Ray cause.
const errorWithCause = "application/vnd.aws.lambda.error.cause+json"

func (c *conn) serveRuntimeError(r route, id []byte, body *bodyReader) bool {
	requestID := string(id)
	errorType := sanitiseErrorType(string(c.head.errorType))
	hasCause := string(c.head.contentType) == errorWithCause
	payload, ok, alive := c.readSmallBody(body)
	if !ok {
		return alive
	}
	if hasCause && r == routeError {
		payload = withoutCause(payload)
	}
	return c.call("", func(call lifecycle.Call) lifecycle.Event {
		if r == routeInitError {
			return lifecycle.RuntimeInitError{Call: call, ErrorType: errorType, Payload: payload}
		}
		return lifecycle.RuntimeError{Call: call, RequestID: requestID, ErrorType: errorType, Payload: payload}
	})
}

// withoutCause leaves of an error with a cause what the caller of the function
// may see.
func withoutCause(payload []byte) []byte {
	var e struct {
		Message    string   `json:"errorMessage,omitempty"`
		Type       string   `json:"errorType,omitempty"`
		StackTrace []string `json:"stackTrace,omitempty"`
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		return []byte(`"Invalid error body"`)
	}
	p, err := json.Marshal(e)
	if err != nil {
		return []byte(`"Invalid error body"`)
	}
	return p
}

// sanitiseErrorType bounds what a runtime may put into records and metrics as
// the type of an error: Runtime.Xyz and Function.Xyz are kept, anything else
// becomes Function.Unknown or Runtime.Unknown.
func sanitiseErrorType(s string) string {
	category, reason, _ := strings.Cut(s, ".")
	valid := len(reason) >= 2 && len(reason) <= 128 && 'A' <= reason[0] && reason[0] <= 'Z'
	for _, c := range []byte(reason) {
		valid = valid && ('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z')
	}
	switch {
	case valid && (category == "Runtime" || category == "Function"):
		return s
	case category == "Function" && s != category:
		return "Function.Unknown"
	}
	return "Runtime.Unknown"
}

func (c *conn) serveRegister(body *bodyReader) bool {
	name := string(c.head.extName)
	if name == "" {
		c.writeError(403, "Extension.InvalidExtensionName", "Empty extension name")
		return true
	}
	accountID := acceptsAccountID(string(c.head.extFeature))
	p, ok, alive := c.readSmallBody(body)
	if !ok {
		return alive
	}
	events, err := decodeRegister(p)
	if err != nil {
		c.writeError(403, "InvalidRequestFormat", err.Error())
		return true
	}
	return c.call("", func(call lifecycle.Call) lifecycle.Event {
		return lifecycle.Register{Call: call, Name: name, Events: events, AccountID: accountID, NewID: uuid.NewString()}
	})
}

// acceptsAccountID looks for the one feature there is in a comma list; unknown
// ones are ignored.
func acceptsAccountID(features string) bool {
	for f := range strings.SplitSeq(features, ",") {
		if strings.TrimSpace(f) == "accountId" {
			return true
		}
	}
	return false
}

// maxEvents bounds the list of register; there are two kinds of events.
const maxEvents = 64

// decodeRegister reads the body of register. As with AWS, unknown members are
// ignored, except for the one of the preview that would have had an effect.
func decodeRegister(p []byte) (events []string, err error) {
	var req struct {
		Events            []string `json:"events"`
		ConfigurationKeys []string `json:"configurationKeys"`
	}
	if err := json.Unmarshal(p, &req); err != nil {
		return nil, err
	}
	if len(req.ConfigurationKeys) > 0 {
		return nil, errors.New("configurationKeys are deprecated; use environment variables instead")
	}
	if len(req.Events) > maxEvents {
		return nil, errors.New("too many events")
	}
	return req.Events, nil
}

// extensionID reads the identifier header in any form of a UUID, and answers
// when there is none.
func (c *conn) extensionID() (id string, ok bool) {
	if len(c.head.extID) == 0 {
		c.writeError(403, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
		return "", false
	}
	u, err := uuid.ParseBytes(c.head.extID)
	if err != nil {
		c.writeError(403, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
		return "", false
	}
	return u.String(), true
}

func (c *conn) serveExtensionError(r route, body *bodyReader) bool {
	id, ok := c.extensionID()
	if !ok {
		return true
	}
	errorType := string(c.head.extErrorType)
	if errorType == "" {
		c.writeError(403, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")
		return true
	}
	// The body is optional and has no use; it is read so that a client that
	// waits for a 100 gets it.
	if _, ok, alive := c.readSmallBody(body); !ok {
		return alive
	}
	return c.call(id, func(call lifecycle.Call) lifecycle.Event {
		if r == routeExtensionInitError {
			return lifecycle.ExtensionInitError{Call: call, ID: id, ErrorType: errorType}
		}
		return lifecycle.ExtensionExitError{Call: call, ID: id, ErrorType: errorType}
	})
}

// serveSubscription hands over what a subscription asks for, unread: the answer
// comes by ReplyJSON, or as a refusal of the machine.
func (c *conn) serveSubscription(api lifecycle.API, body *bodyReader) bool {
	id, ok := c.extensionID()
	if !ok {
		return true
	}
	p, ok, alive := c.readSmallBody(body)
	if !ok {
		return alive
	}
	return c.call(id, func(call lifecycle.Call) lifecycle.Event {
		return lifecycle.Subscribe{Call: call, ID: id, API: api, Body: p}
	})
}
