package runtimeapi

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/firn-run/firn/internal/lifecycle"
)

// Event is what the runtime gets of an invocation besides what the machine
// knows of it.
type Event struct {
	Payload         []byte
	ClientContext   string
	CognitoIdentity string
}

// Reply writes the reply that an action of the machine stands for, on the
// caller's goroutine; it blocks while the peer does not read. Actions that are
// not replies, and calls that are over, are ignored. ev goes with
// DeliverInvoke and is nil otherwise.
func (s *Server) Reply(action lifecycle.Action, ev *Event) {
	switch a := action.(type) {
	case lifecycle.Reply:
		s.reply(a.Call, a.Status, nil, []byte(`{"status":"OK"}`+"\n"))
	case lifecycle.Refuse:
		s.reply(a.Call, a.Status, nil, errorBody(a.ErrorType, a.Message))
	case lifecycle.AcceptBody:
		if c := s.peek(a.Call); c != nil {
			c.accepts = true // by the goroutine of c, which is in Handle
		}
	case lifecycle.ReplyRegistered:
		s.replyRegistered(a)
	case lifecycle.DeliverInvoke:
		s.deliver(a, ev)
	case lifecycle.DeliverExtensionInvoke:
		s.deliverExtensionInvoke(a)
	case lifecycle.DeliverExtensionShutdown:
		s.replyJSON(a.Call, s.eventHeaders(a.Call), extensionEvent{
			EventType: "SHUTDOWN", ShutdownReason: string(a.Reason), DeadlineMs: a.Deadline.UnixMilli(),
		})
	case lifecycle.Drop:
		if c := s.leave(a.Call); c != nil {
			c.abandon()
		}
	}
}

// expireAfter is how long a delivery that was overtaken by its own answer may
// still take: far longer than a healthy one is late, and nobody waits for it.
const expireAfter = time.Second

// Expire bounds the writing of a reply that is no longer of use: an event
// whose answer came in over another connection while the first one does not
// read. Without it the goroutine that delivers could hang on an idle
// environment.
func (s *Server) Expire(call lifecycle.Call) {
	c := s.peek(call)
	if c == nil {
		return
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(expireAfter)) // fails on a closed connection only
	c.expires.Store(uint64(call))                            // after it, so that whoever clears it finds it set
}

// reply answers a call with headers (complete lines) and a JSON body.
func (s *Server) reply(call lifecycle.Call, status int, headers, body []byte) {
	if c := s.peek(call); c != nil {
		out := s.cfg.Buffers.get(512 + len(headers) + len(body))
		out.data = c.appendHead(out.data, status, "application/json", len(body))
		out.data = append(out.data, headers...)
		out.data = append(out.data, "\r\n"...)
		out.data = append(out.data, body...)
		c.reply(call, out.data)
		out.Release()
	}
}

// ReplyJSON answers a call with a JSON document of the caller's. Like Reply it
// writes on the caller's goroutine, and ignores calls that are over.
func (s *Server) ReplyJSON(call lifecycle.Call, status int, body []byte) {
	s.reply(call, status, nil, body)
}

func (s *Server) replyJSON(call lifecycle.Call, headers []byte, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot be: plain strings and numbers
		s.reply(call, 500, nil, errorBody("InternalServerError", "Internal Server Error"))
		return
	}
	s.reply(call, 200, headers, append(body, '\n'))
}

func (s *Server) replyRegistered(a lifecycle.ReplyRegistered) {
	r := struct {
		FunctionName    string `json:"functionName"`
		FunctionVersion string `json:"functionVersion"`
		Handler         string `json:"handler"`
		AccountID       string `json:"accountId,omitempty"`
	}{FunctionName: s.cfg.FunctionName, FunctionVersion: s.cfg.FunctionVersion, Handler: s.cfg.FunctionHandler}
	if a.AccountID {
		r.AccountID = s.cfg.AccountID
	}
	s.replyJSON(a.Call, appendHeader(nil, "Lambda-Extension-Identifier", a.ID), r)
}

// writevBytes is the payload size from which it is handed to the kernel as it
// is and not copied behind the headers.
const writevBytes = 16 << 10

// deliver answers the runtime's next.
func (s *Server) deliver(a lifecycle.DeliverInvoke, ev *Event) {
	c := s.peek(a.Call)
	if c == nil {
		return
	}
	inline := ev.Payload
	if len(inline) >= writevBytes {
		inline = nil
	}
	size := 1024 + len(ev.ClientContext) + len(ev.CognitoIdentity) + len(a.Invocation.TraceID) + len(a.Invocation.ARN) + len(inline)
	out := s.cfg.Buffers.get(size)
	p := c.appendHead(out.data, 200, "application/json", len(ev.Payload))
	p = appendHeader(p, "Lambda-Runtime-Aws-Request-Id", a.Invocation.RequestID)
	p = append(p, "Lambda-Runtime-Deadline-Ms: "...)
	p = strconv.AppendInt(p, a.Deadline.UnixMilli(), 10)
	p = append(p, "\r\n"...)
	p = appendHeader(p, "Lambda-Runtime-Invoked-Function-Arn", a.Invocation.ARN)
	p = appendHeader(p, "Lambda-Runtime-Trace-Id", a.Invocation.TraceID)
	p = appendHeader(p, "Lambda-Runtime-Client-Context", ev.ClientContext)
	p = appendHeader(p, "Lambda-Runtime-Cognito-Identity", ev.CognitoIdentity)
	p = append(p, "\r\n"...)
	if len(inline) == len(ev.Payload) {
		p = append(p, inline...)
		c.reply(a.Call, p)
	} else {
		c.reply(a.Call, p, ev.Payload)
	}
	out.Release()
}

// extensionEvent is the body of an extension's next.
type extensionEvent struct {
	EventType          string        `json:"eventType"`
	DeadlineMs         int64         `json:"deadlineMs"`
	RequestID          string        `json:"requestId,omitempty"`
	InvokedFunctionARN string        `json:"invokedFunctionArn,omitempty"`
	Tracing            *eventTracing `json:"tracing,omitempty"`
	ShutdownReason     string        `json:"shutdownReason,omitempty"`
}

type eventTracing struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

func (s *Server) deliverExtensionInvoke(a lifecycle.DeliverExtensionInvoke) {
	ev := extensionEvent{
		EventType:          "INVOKE",
		DeadlineMs:         a.Deadline.UnixMilli(),
		RequestID:          a.Invocation.RequestID,
		InvokedFunctionARN: a.Invocation.ARN,
	}
	if a.Invocation.TraceID != "" {
		ev.Tracing = &eventTracing{Type: "X-Amzn-Trace-Id", Value: a.Invocation.TraceID}
	}
	s.replyJSON(a.Call, s.eventHeaders(a.Call), ev)
}

// eventHeaders are the headers of an extension's event: a fresh identity for
// it, as AWS's emulator sends, and the identifier of the extension, as the
// documentation says.
func (s *Server) eventHeaders(call lifecycle.Call) []byte {
	p := appendHeader(nil, "Lambda-Extension-Event-Identifier", uuid.NewString())
	if c := s.peek(call); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		p = appendHeader(p, "Lambda-Extension-Identifier", c.ext)
	}
	return p
}

// Answers of the server itself, by the connection's goroutine.

func (c *conn) writeError(status int, errorType, message string) {
	c.write(status, "application/json", "", errorBody(errorType, message))
}

func (c *conn) writeTooLarge() {
	c.writeError(413, "RequestEntityTooLarge",
		"Exceeded maximum allowed payload size ("+strconv.Itoa(maxErrorBytes)+" bytes).")
}

func (c *conn) writePlain(text string) {
	c.write(200, "text/plain; charset=utf-8", "", []byte(text))
}

// writeNotFound answers as net/http does, or with nothing where AWS's switch
// of the Extensions API does so.
func (c *conn) writeNotFound(empty bool) {
	if empty {
		c.write(404, "", "", nil)
		return
	}
	c.write(404, "text/plain; charset=utf-8", "X-Content-Type-Options: nosniff\r\n", []byte("404 page not found\n"))
}

func (c *conn) writeNotAllowed(method string) {
	c.write(405, "", "Allow: "+method+"\r\n", nil)
}

// writeText answers what is not a request: text is "CODE reason", and the
// connection ends.
func (c *conn) writeText(text string) {
	c.closeAfterReply()
	status, err := strconv.Atoi(text[:3])
	if err != nil {
		status = 400
	}
	c.write(status, "text/plain; charset=utf-8", "", []byte(text))
}

func (c *conn) write(status int, contentType, headers string, body []byte) {
	if string(c.head.method) == "HEAD" {
		body = nil
	}
	out := c.server.cfg.Buffers.get(512 + len(headers) + len(body))
	defer out.Release()
	p := c.appendHead(out.data, status, contentType, len(body))
	p = append(p, headers...)
	p = append(p, "\r\n"...)
	p = append(p, body...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeLocked(p)
}

// appendHead begins a response; the caller ends the headers.
func (c *conn) appendHead(p []byte, status int, contentType string, length int) []byte {
	p = append(p, "HTTP/1.1 "...)
	p = strconv.AppendInt(p, int64(status), 10)
	p = append(p, ' ')
	p = append(p, statusText(status)...)
	p = append(p, "\r\nDate: "...)
	p = c.server.cfg.Now().UTC().AppendFormat(p, "Mon, 02 Jan 2006 15:04:05 GMT")
	p = append(p, "\r\n"...)
	p = appendHeader(p, "Content-Type", contentType)
	p = append(p, "Content-Length: "...)
	p = strconv.AppendInt(p, int64(length), 10)
	p = append(p, "\r\n"...)
	c.mu.Lock()
	closing, http10 := c.closing, c.http10
	c.mu.Unlock()
	switch {
	case closing:
		p = append(p, "Connection: close\r\n"...)
	case http10:
		p = append(p, "Connection: keep-alive\r\n"...)
	}
	return p
}

// appendHeader appends a line, or nothing when the value is empty. Control
// characters, which a caller's client context may hold, become spaces.
func appendHeader(p []byte, name, value string) []byte {
	if value == "" {
		return p
	}
	p = append(p, name...)
	p = append(p, ": "...)
	at := len(p)
	p = append(p, value...)
	for i, c := range p[at:] {
		if c < ' ' && c != '\t' || c == 0x7f {
			p[at+i] = ' '
		}
	}
	return append(p, "\r\n"...)
}

func errorBody(errorType, message string) []byte {
	p, err := json.Marshal(struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{message, errorType})
	if err != nil { // cannot be: strings
		return []byte("{}\n")
	}
	return append(p, '\n')
}

// statusText has the reasons of the statuses that are sent here.
func statusText(status int) string {
	switch status {
	case 200:
		return "OK"
	case 202:
		return "Accepted"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 410:
		return "Gone"
	case 413:
		return "Request Entity Too Large"
	case 431:
		return "Request Header Fields Too Large"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 505:
		return "HTTP Version Not Supported"
	}
	return "Status"
}
