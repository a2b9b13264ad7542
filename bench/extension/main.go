// Command extension is what telemetry is measured with: an HTTP listener over
// bare sockets that acknowledges every batch and counts its records. As an
// external extension it subscribes and asks for events like any other. Run
// with an address as its argument it only listens there, and prints, when its
// standard input ends, how many records and bytes it was sent.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

func main() {
	var err error
	if len(os.Args) > 1 {
		err = listen(os.Args[1])
	} else {
		err = extend(filepath.Base(os.Args[0]), "http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "extension:", err)
		os.Exit(1)
	}
}

// counter counts what came.
type counter struct{ records, bytes atomic.Int64 }

func listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	c := &counter{}
	go c.accept(l)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	fmt.Println(c.records.Load(), c.bytes.Load())
	return nil
}

func (c *counter) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go c.serve(conn)
	}
}

// serve reads requests of known length and answers each with 200.
func (c *counter) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	var body []byte
	for {
		length := -1
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(bytes.TrimSpace(line)) == 0 {
				break
			}
			if name, value, _ := bytes.Cut(line, []byte{':'}); bytes.EqualFold(name, []byte("Content-Length")) {
				if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
					return
				}
			}
		}
		if length < 0 {
			return
		}
		if cap(body) < length {
			body = make([]byte, length)
		}
		if _, err := io.ReadFull(in, body[:length]); err != nil {
			return
		}
		c.records.Add(int64(bytes.Count(body[:length], []byte(`{"time":"`))))
		c.bytes.Add(int64(length))
		if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
			return
		}
	}
}

// extend is the extension. Its name ends in its number, which makes its port.
func extend(name, api string) error {
	id := ""
	call := func(method, path, body string) (string, error) {
		req, err := http.NewRequest(method, api+path, strings.NewReader(body))
		if err != nil {
			return "", err
		}
		req.Header.Set("Lambda-Extension-Name", name)
		if id != "" {
			req.Header.Set("Lambda-Extension-Identifier", id)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		if id == "" {
			id = resp.Header.Get("Lambda-Extension-Identifier")
		}
		answer, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s: %s", path, resp.Status, answer)
		}
		return string(answer), err
	}
	if _, err := call("POST", "/2020-01-01/extension/register", `{"events":["INVOKE","SHUTDOWN"]}`); err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, "extension"))
	if err != nil {
		return err
	}
	addr := fmt.Sprintf("sandbox.localdomain:%d", 4000+n)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go new(counter).accept(l)
	if _, err := call("PUT", "/2022-07-01/telemetry", `{"schemaVersion":"2022-12-13","types":["platform","function"],`+
		`"buffering":{"timeoutMs":25,"maxBytes":262144,"maxItems":10000},"destination":{"protocol":"HTTP","URI":"http://`+addr+`"}}`); err != nil {
		return err
	}
	for {
		event, err := call("GET", "/2020-01-01/extension/event/next", "")
		if err != nil || strings.Contains(event, `"SHUTDOWN"`) {
			return err
		}
	}
}
