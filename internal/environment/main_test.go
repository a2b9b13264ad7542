package environment

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary the function's bootstrap, and its extensions:
// the tests link it to where environments look for these.
func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "bootstrap":
		os.Exit(runtimeMain())
	case filepath.Base(filepath.Dir(os.Args[0])) == "extensions":
		os.Exit(extensionMain(filepath.Base(os.Args[0])))
	}
	os.Exit(m.Run())
}

// command is the event that the test runtime obeys.
type command struct {
	Print   string // written to standard output before the answer, as it is
	Do      string // echo (also ""), error, exit, panic, sleep, big, flood, kill, file, ...
	Arg     string
	Bytes   []byte
	Millis  int
	Code    int
	AfterMS int    // work after the response, before next
	After   string // printed then
}

// client speaks the APIs from inside.
type client struct {
	base string
	http *http.Client
}

func newClient() *client {
	return &client{
		base: "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API"),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, DisableCompression: true}},
	}
}

func (c *client) do(method, path string, header map[string]string, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequest(method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	return resp, p, err
}

func runtimeMain() int {
	c := newClient()
	counter := 0
	switch os.Getenv("INIT") {
	case "fast":
		return fastMain()
	case "exit":
		fmt.Println("init exits")
		return 3
	case "hang":
		select {}
	case "exit-once": // the first init of the environment fails
		mark := filepath.Join(os.Getenv("TMPDIR"), "inited")
		if _, err := os.Stat(mark); err != nil {
			if err := os.WriteFile(mark, nil, 0o600); err != nil {
				panic(err)
			}
			return 4
		}
	case "error":
		c.do("POST", "/2018-06-01/runtime/init/error", map[string]string{"Lambda-Runtime-Function-Error-Type": "Runtime.ImportModuleError"},
			[]byte(`{"errorMessage":"no module","errorType":"Runtime.ImportModuleError"}`))
		return 1
	case "xray":
		sendSegment(segment)
	case "flood":
		line := []byte(strings.Repeat("y", 999) + "\n")
		for range 64 << 10 {
			os.Stdout.Write(line)
		}
	case "internal":
		resp, _, err := c.do("POST", "/2020-01-01/extension/register", map[string]string{"Lambda-Extension-Name": "inside"}, []byte(`{"events":[]}`))
		if err != nil {
			panic(err)
		}
		go c.do("GET", "/2020-01-01/extension/event/next",
			map[string]string{"Lambda-Extension-Identifier": resp.Header.Get("Lambda-Extension-Identifier")}, nil)
		sig := make(chan os.Signal, 1)
		signal.Notify(sig, syscall.SIGTERM)
		go func() {
			<-sig
			fmt.Println("runtime got SIGTERM")
			os.Exit(0)
		}()
	}
	fmt.Println("init")
	for {
		resp, p, err := c.do("GET", "/2018-06-01/runtime/invocation/next", nil, nil)
		if err != nil {
			fmt.Println("next:", err)
			return 9
		}
		id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		counter++
		var cmd command
		if err := json.Unmarshal(p, &cmd); err != nil {
			return 8
		}
		obey(c, id, counter, &cmd, p, resp.Header)
	}
}

// obey carries out one event and answers it.
func obey(c *client, id string, counter int, cmd *command, event []byte, header http.Header) {
	fmt.Print(cmd.Print)
	invocation := "/2018-06-01/runtime/invocation/" + id
	answer := event
	switch cmd.Do {
	case "counter":
		answer = fmt.Appendf(nil, "%d", counter)
	case "header":
		answer, _ = json.Marshal(header)
	case "environ":
		answer, _ = json.Marshal(os.Environ())
	case "args":
		answer, _ = json.Marshal(os.Args[1:])
	case "touch":
		if err := os.WriteFile(filepath.Join(os.Getenv("TMPDIR"), cmd.Arg), nil, 0o600); err != nil {
			panic(err)
		}
	case "exists":
		_, err := os.Stat(filepath.Join(os.Getenv("TMPDIR"), cmd.Arg))
		answer = fmt.Append(nil, err == nil)
	case "sleep":
		time.Sleep(time.Duration(cmd.Millis) * time.Millisecond) // archtest:sleep the function's work
	case "exit":
		os.Exit(cmd.Code)
	case "panic":
		panic("the function panics")
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "error":
		c.do("POST", invocation+"/error", map[string]string{"Lambda-Runtime-Function-Error-Type": "Function.Bad"},
			[]byte(`{"errorMessage":"bad","errorType":"Bad"}`))
		return
	case "big":
		answer = bytes.Repeat([]byte{'x'}, cmd.Code)
	case "chunked":
		c.streamed(invocation+"/response", cmd.Code)
		return
	case "overtake stream":
		overtakeStream(c, id)
		return
	case "stream":
		c.streamOrder(invocation+"/response", cmd)
		return
	case "truncated":
		truncated(id)
		select {}
	case "flood":
		line := []byte(strings.Repeat("y", 99) + "\n")
		for range cmd.Code / len(line) {
			os.Stdout.Write(line)
		}
	case "wrong-id":
		resp, p, _ := c.do("POST", "/2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response", nil, []byte("{}"))
		answer = fmt.Appendf(nil, "%d %s", resp.StatusCode, p)
	case "xray":
		sendSegment(cmd.Arg)
	case "frames":
		writeFrames(cmd)
	case "overtake":
		overtake(id)
	case "garbage":
		garbage()
	}
	resp, p, err := c.do("POST", invocation+"/response", map[string]string{"Content-Type": "application/test"}, answer)
	if err != nil {
		fmt.Println("response:", err)
	} else if resp.StatusCode != 202 || string(p) != "{\"status\":\"OK\"}\n" {
		fmt.Printf("response: %d %s\n", resp.StatusCode, p)
	}
	if cmd.Do == "twice" {
		resp, p, _ := c.do("POST", invocation+"/response", nil, answer)
		fmt.Printf("second response: %d %s", resp.StatusCode, p)
	}
	time.Sleep(time.Duration(cmd.AfterMS) * time.Millisecond) // archtest:sleep its work after the answer
	fmt.Print(cmd.After)
}

// streamed posts n bytes with chunked encoding in streaming mode.
func (c *client) streamed(path string, n int) {
	r, w := io.Pipe()
	go func() {
		chunk := bytes.Repeat([]byte{'z'}, 1000)
		for n > 0 {
			k := min(n, len(chunk))
			w.Write(chunk[:k])
			n -= k
		}
		w.Close()
	}()
	req, _ := http.NewRequest("POST", c.base+path, r)
	req.Header.Set("Lambda-Runtime-Function-Response-Mode", "streaming")
	resp, err := c.http.Do(req)
	if err != nil {
		fmt.Println("stream:", err)
		return
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

// truncated declares more than it sends and hangs up.
func truncated(id string) {
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(conn, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf", id)
	conn.Close()
}

// writeFrames logs as managed runtimes do, Code times, with the kind of frame
// in Millis; Code 0 writes the bytes as they are.
func writeFrames(cmd *command) {
	fd, err := strconv.Atoi(os.Getenv("_LAMBDA_TELEMETRY_LOG_FD"))
	if err != nil {
		panic(err)
	}
	write := func(p []byte) { // no os.File: that would be closed with its garbage
		for len(p) > 0 {
			n, err := syscall.Write(fd, p)
			if err != nil {
				panic(err)
			}
			p = p[n:]
		}
	}
	if cmd.Code == 0 {
		write(cmd.Bytes)
	}
	for range cmd.Code {
		p := binary.BigEndian.AppendUint32(nil, 0xa55a0000|uint32(cmd.Millis))
		p = binary.BigEndian.AppendUint32(p, uint32(len(cmd.Arg)))
		p = binary.BigEndian.AppendUint64(p, uint64(time.Now().UnixMicro()))
		write(append(p, cmd.Arg...))
	}
}

// sendSegment does what the X-Ray SDKs do.
func sendSegment(p string) {
	conn, err := net.Dial("udp", os.Getenv("AWS_XRAY_DAEMON_ADDRESS"))
	if err != nil {
		panic(err)
	}
	if _, err := conn.Write([]byte(p)); err != nil {
		panic(err)
	}
	conn.Close()
}

// overtake polls for the event again on a connection from which it never
// reads, so that a large event gets stuck there.
func overtake(string) {
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		panic(err)
	}
	fmt.Fprint(conn, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
}

// garbage opens connections of every bad kind, and leaves them.
func garbage() {
	for i := range 300 {
		conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
		if err != nil {
			panic(err)
		}
		switch i % 6 {
		case 0:
			conn.Write([]byte("\x16\x03\x01garbage\r\n\r\n"))
		case 1:
			conn.Write([]byte("POST /2018-06-01/runtime/invocation/x/error HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhalf"))
		case 2:
			conn.Write([]byte("GET /half a request"))
		case 3:
			conn.Write([]byte("GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: 0b8a1b0e-7f0f-4f5c-9a67-6e5f5f6a7b8c\r\n\r\n"))
		case 4:
			conn.Write([]byte("POST /2020-01-01/extension/register HTTP/1.1\r\nHost: x\r\nLambda-Extension-Name: late\r\nContent-Length: 1\r\n\r\n{"))
		case 5:
			conn.Close()
		}
	}
}

func extensionMain(name string) int {
	c := newClient()
	switch os.Getenv("EXT") {
	case "exit":
		return 7
	case "subscribe":
		return subscriberMain(name)
	}
	events := `{"events":["INVOKE","SHUTDOWN"]}`
	resp, _, err := c.do("POST", "/2020-01-01/extension/register", map[string]string{"Lambda-Extension-Name": name}, []byte(events))
	if err != nil || resp.StatusCode != 200 {
		fmt.Println("register", err)
		return 8
	}
	id := map[string]string{"Lambda-Extension-Identifier": resp.Header.Get("Lambda-Extension-Identifier")}
	fmt.Printf("%s registered\n", name)
	for {
		_, p, err := c.do("GET", "/2020-01-01/extension/event/next", id, nil)
		if err != nil {
			fmt.Println(name, "next:", err)
			return 9
		}
		var ev struct{ EventType, RequestID, ShutdownReason string }
		if err := json.Unmarshal(p, &ev); err != nil {
			return 10
		}
		fmt.Printf("%s %s %s\n", name, ev.EventType, ev.ShutdownReason)
		if ev.EventType == "SHUTDOWN" {
			return 0
		}
		switch os.Getenv("EXT") {
		case "slow":
			time.Sleep(400 * time.Millisecond) // archtest:sleep the extension's work
			fmt.Printf("%s worked\n", name)
		case "crash":
			return 5
		}
	}
}

// fastMain is a runtime over a bare socket, for measurements.
func fastMain() int {
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		return 1
	}
	next := []byte("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench/1\r\n\r\n")
	buf := make([]byte, 64<<10)
	read := func() []byte {
		n := 0
		for {
			k, err := conn.Read(buf[n:])
			if err != nil {
				os.Exit(2)
			}
			n += k
			head := bytes.Index(buf[:n], []byte("\r\n\r\n"))
			if head < 0 {
				continue
			}
			_, rest, _ := bytes.Cut(buf[:head], []byte("Content-Length: "))
			var length int
			fmt.Sscanf(string(rest), "%d", &length)
			if n >= head+4+length {
				return buf[:n]
			}
		}
	}
	for {
		conn.Write(next)
		_, rest, _ := bytes.Cut(read(), []byte("Lambda-Runtime-Aws-Request-Id: "))
		id, _, _ := bytes.Cut(rest, []byte("\r\n"))
		conn.Write(fmt.Appendf(nil, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", id))
		read()
	}
}
