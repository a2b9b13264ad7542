// Command runtime is the function that firn is measured with: a static
// bootstrap for provided.al2023 that speaks HTTP over a bare socket, so that
// what is measured is the platform and not the runtime. It answers with the
// event as it came. An event {"hold":MS} makes it work until that Unix time,
// in milliseconds, and answer with the time at which it began,
// {"at":NANOSECONDS}; {"sleep":MS} makes it work for so long. An event {"stream":N} makes it stream N bytes.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Getenv("AWS_LAMBDA_RUNTIME_API")); err != nil {
		fmt.Fprintln(os.Stderr, "runtime:", err)
		os.Exit(1)
	}
}

// api is the connection to the Runtime API.
type api struct {
	fd   int
	buf  []byte // what was read and not consumed is buf[r:]
	r    int
	head []byte // of the last response
}

func run(addr string) error {
	a, err := dial(addr)
	if err != nil {
		return err
	}
	next := []byte("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")
	for {
		event, err := a.exchange(next)
		if err != nil {
			return err
		}
		began := time.Now()
		id := header(a.head, "\r\nLambda-Runtime-Aws-Request-Id: ")
		if n := streamed(event); n > 0 {
			if err := a.stream(addr, string(id), n); err != nil {
				return err
			}
			continue
		}
		request := make([]byte, 0, 256+len(event))
		request = append(request, "POST /2018-06-01/runtime/invocation/"...)
		request = append(request, id...)
		request = append(request, "/response HTTP/1.1\r\nHost: "+addr+"\r\nContent-Length: "...)
		answer := handle(event, began)
		request = strconv.AppendInt(request, int64(len(answer)), 10)
		request = append(request, "\r\n\r\n"...)
		request = append(request, answer...)
		if _, err := a.exchange(request); err != nil {
			return err
		}
	}
}

// handle is the function.
func handle(event []byte, began time.Time) []byte {
	sleeping := bytes.HasPrefix(event, []byte(`{"sleep":`))
	if !sleeping && !bytes.HasPrefix(event, []byte(`{"hold":`)) {
		return event
	}
	var e struct{ Hold, Sleep int64 }
	if err := json.Unmarshal(event, &e); err != nil {
		return []byte(`{"errorMessage":"bad event"}`)
	}
	if sleeping {
		<-time.After(time.Duration(e.Sleep) * time.Millisecond)
		return event
	}
	<-time.After(time.Until(time.UnixMilli(e.Hold)))
	return fmt.Appendf(nil, `{"at":%d}`, began.UnixNano())
}

// streamed is how many bytes an event wants streamed.
func streamed(event []byte) int {
	var e struct{ Stream int }
	if !bytes.HasPrefix(event, []byte(`{"stream":`)) || json.Unmarshal(event, &e) != nil {
		return 0
	}
	return e.Stream
}

// stream answers with n bytes in chunks of 64 KiB.
func (a *api) stream(addr, id string, n int) error {
	const most = 64 << 10
	if err := a.write([]byte("POST /2018-06-01/runtime/invocation/" + id + "/response HTTP/1.1\r\nHost: " + addr +
		"\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n")); err != nil {
		return err
	}
	for n > 0 {
		size := min(n, most)
		chunk := fmt.Appendf(make([]byte, 0, size+16), "%x\r\n", size)
		chunk = append(chunk, bytes.Repeat([]byte{'s'}, size)...)
		if err := a.write(append(chunk, "\r\n"...)); err != nil {
			return err
		}
		n -= size
	}
	_, err := a.exchange([]byte("0\r\n\r\n"))
	return err
}

func dial(addr string) (*api, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return nil, fmt.Errorf("no delay: %w", err)
	}
	return &api{fd: fd, buf: make([]byte, 0, 8<<10)}, nil
}

// exchange sends a request and returns the body of its response, valid until
// the next call.
func (a *api) exchange(request []byte) ([]byte, error) {
	if err := a.write(request); err != nil {
		return nil, err
	}
	a.buf, a.r = append(a.buf[:0], a.buf[a.r:]...), 0
	for {
		if end := bytes.Index(a.buf, []byte("\r\n\r\n")); end >= 0 {
			return a.body(end + 4)
		}
		if err := a.fill(); err != nil {
			return nil, err
		}
	}
}

func (a *api) write(p []byte) error {
	for len(p) > 0 {
		n, err := syscall.Write(a.fd, p)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("write: %w", err)
		}
		p = p[max(n, 0):]
	}
	return nil
}

// body reads what follows a head of the given length.
func (a *api) body(head int) ([]byte, error) {
	length := 0
	if text := header(a.buf[:head], "\r\nContent-Length: "); len(text) > 0 {
		var err error
		if length, err = strconv.Atoi(string(text)); err != nil {
			return nil, fmt.Errorf("content length: %w", err)
		}
	}
	if need := head + length; cap(a.buf) < need {
		a.buf = append(make([]byte, 0, need), a.buf...)
	}
	for len(a.buf) < head+length {
		if err := a.fill(); err != nil {
			return nil, err
		}
	}
	a.head, a.r = a.buf[:head], head+length
	return a.buf[head:a.r], nil
}

func (a *api) fill() error {
	if len(a.buf) == cap(a.buf) {
		a.buf = append(make([]byte, 0, 2*cap(a.buf)), a.buf...)
	}
	n, err := syscall.Read(a.fd, a.buf[len(a.buf):cap(a.buf)])
	switch {
	case errors.Is(err, syscall.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return io.ErrUnexpectedEOF
	}
	a.buf = a.buf[:len(a.buf)+n]
	return nil
}

// header returns the value that follows mark in a head.
func header(head []byte, mark string) []byte {
	i := bytes.Index(head, []byte(mark))
	if i < 0 {
		return nil
	}
	value := head[i+len(mark):]
	return value[:bytes.IndexByte(value, '\r')]
}
