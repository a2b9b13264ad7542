package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Step is one thing to do. A name makes its result be kept.
type Step struct {
	Name string `json:"name,omitempty"`
	// Send is a request without HTTP/1.1, Host and Content-Length, lines
	// ended by LF: "POST /path\nHeader: value\n\nbody". Raw is sent as it is.
	// Both may hold ${id}, ${ext} and ${api}.
	Send string `json:"send,omitempty"`
	Raw  string `json:"raw,omitempty"`
	Fill int    `json:"fill,omitempty"` // so many more bytes of body: "x"
	Conn string `json:"conn,omitempty"` // connection to keep; "" is a new one that is closed afterwards
	Half bool   `json:"half,omitempty"` // end the sending half after it
	Hang bool   `json:"hang,omitempty"` // close without reading an answer
	Also int    `json:"also,omitempty"` // read so many further answers (pipelining)
	Park bool   `json:"park,omitempty"` // do not wait for an answer, keep the connection

	Print string `json:"print,omitempty"` // to standard output, as it is
	Sleep int    `json:"sleep,omitempty"` // milliseconds
	Exit  *int   `json:"exit,omitempty"`
	Kill  int    `json:"kill,omitempty"` // signal to itself
	Show  string `json:"show,omitempty"` // "env", "limits", "process"
	Spin  bool   `json:"spin,omitempty"` // hang
}

// Result is what a step saw.
type Result struct {
	Name   string            `json:"name"`
	Party  string            `json:"party"`
	At     int64             `json:"at"` // Unix milliseconds
	Status int               `json:"status,omitempty"`
	Header map[string]string `json:"header,omitempty"` // names as they came
	Body   string            `json:"body,omitempty"`
	Closed bool              `json:"closed,omitempty"` // the server closed the connection afterwards
	Error  string            `json:"error,omitempty"`
	Also   []Result          `json:"also,omitempty"`
}

// party is the process: its connections and what it has learnt.
type party struct {
	name    string
	conns   map[string]*conn
	id, ext string // of the invocation, and of the extension registered last
}

type conn struct {
	net.Conn
	r *bufio.Reader
}

func (p *party) do(steps []Step) {
	for _, s := range steps {
		r := Result{}
		switch {
		case s.Send != "" || s.Raw != "":
			r = p.send(s)
		case s.Sleep > 0:
			time.Sleep(time.Duration(s.Sleep) * time.Millisecond) // archtest:sleep the party's work
		case s.Exit != nil:
			os.Exit(*s.Exit)
		case s.Kill != 0:
			syscall.Kill(os.Getpid(), syscall.Signal(s.Kill))
			forever()
		case s.Show != "":
			r.Body = show(s.Show)
		case s.Print != "":
			os.Stdout.WriteString(s.Print)
		case s.Spin:
			forever()
		}
		if s.Name != "" {
			r.Name = s.Name
			p.note(r)
		}
	}
}

// forever blocks without looking like a deadlock to Go.
func forever() {
	time.Sleep(24 * time.Hour) // archtest:sleep the party is to hang
}

// bytes is what goes over the wire.
func (p *party) bytes(s Step) string {
	fill := strings.NewReplacer("${id}", p.id, "${ext}", p.ext, "${api}", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if s.Raw != "" {
		return fill.Replace(s.Raw) + strings.Repeat("x", s.Fill)
	}
	head, body, _ := strings.Cut(s.Send, "\n\n")
	body = fill.Replace(body) + strings.Repeat("x", s.Fill)
	line, headers, _ := strings.Cut(head, "\n")
	var out strings.Builder
	out.WriteString(line + " HTTP/1.1\r\nHost: ${api}\r\n")
	for h := range strings.Lines(headers) {
		out.WriteString(strings.TrimSuffix(h, "\n") + "\r\n")
	}
	if !strings.HasPrefix(line, "GET") {
		out.WriteString(fmt.Sprintf("Content-Length: %d\r\n", len(body)))
	}
	return fill.Replace(out.String()) + "\r\n" + body
}

// send does one exchange. A parked request of the runtime may wait for ever;
// any other one that is not answered in ten seconds is an error.
func (p *party) send(s Step) Result {
	c, err := p.conn(s.Conn)
	if err != nil {
		return Result{Error: "dial: " + err.Error()}
	}
	if s.Conn == "" {
		defer c.Close()
	}
	if s.Conn != "main" {
		c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	// An answer may come before all is sent: the error of the sending shows
	// in the answer, or in its absence.
	raw := p.bytes(s)
	if s.Hang {
		io.WriteString(c, raw)
		delete(p.conns, s.Conn)
		c.Close()
		return Result{}
	}
	if s.Park {
		if _, err := io.WriteString(c, raw); err != nil {
			return Result{Error: "send: " + err.Error()}
		}
		return Result{}
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, raw)
		if s.Half {
			c.Conn.(*net.TCPConn).CloseWrite()
		}
		sent <- err
	}()
	method, _, _ := strings.Cut(s.Send+s.Raw, " ")
	r := p.receive(c, method)
	for range s.Also {
		r.Also = append(r.Also, p.receive(c, method))
	}
	if r.Error != "" || r.Closed {
		delete(p.conns, s.Conn)
		c.Close()
	}
	<-sent
	return r
}

func (p *party) conn(name string) (*conn, error) {
	if c := p.conns[name]; c != nil && name != "" {
		return c, nil
	}
	nc, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		return nil, err
	}
	c := &conn{nc, bufio.NewReader(nc)}
	if name != "" {
		p.conns[name] = c
	}
	return c, nil
}

// receive reads one answer, after any 100 before it.
func (p *party) receive(c *conn, method string) Result {
	continued := 0
	for {
		resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
		if err != nil {
			return Result{Error: "receive: " + err.Error()}
		}
		if resp.StatusCode == http.StatusContinue {
			continued++
			continue
		}
		body, err := io.ReadAll(resp.Body)
		r := Result{Status: resp.StatusCode, Body: string(body), Closed: resp.Close, Header: map[string]string{}}
		if err != nil {
			r.Error = "body: " + err.Error()
		}
		for name, values := range resp.Header {
			r.Header[name] = strings.Join(values, " | ")
		}
		if continued > 0 {
			r.Header["(continued)"] = fmt.Sprint(continued)
		}
		if resp.ContentLength >= 0 {
			r.Header["Content-Length"] = fmt.Sprint(resp.ContentLength)
		}
		if id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id"); id != "" {
			p.id = id
		}
		if id := resp.Header.Get("Lambda-Extension-Identifier"); id != "" && r.Status == 200 {
			p.ext = id
		}
		return r
	}
}
