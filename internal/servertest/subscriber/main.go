// Command subscriber is an extension of firn's own tests that subscribes to the
// Telemetry API or the Logs API and prints, at SHUTDOWN, every record that it
// was sent, in order, one JSON object a line. Its file name says how:
//
//	API.SCHEMA.PROTOCOL[.MODE...]     telemetry.2022-12-13.http, logs.2021-03-18.tcp.slow
//
// Modes: "all" subscribes to the type extension too; "late" opens its listener
// half a second after it has subscribed; "fail" answers its first two batches
// with 500; "slow" takes 200 ms for a batch; "stuck" never answers; "crash"
// exits in its second invocation; "two" has a second subscription, to another
// port; "closed" subscribes during the first invocation.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	name := filepath.Base(os.Args[0])
	s := &subscriber{name: name, parts: strings.Split(name, ".")}
	if len(s.parts) < 3 {
		fail("no such subscriber: %s", name)
	}
	s.port = 20000 + int(crc32.ChecksumIEEE([]byte(name))%10000)*2
	s.run()
}

type subscriber struct {
	name  string
	parts []string
	port  int
	id    string

	mu      sync.Mutex
	batches int
	records []string
}

func (s *subscriber) mode(name string) bool { return slices.Contains(s.parts[3:], name) }

func (s *subscriber) run() {
	head, body := s.call("POST", "/2020-01-01/extension/register", `{"events":["INVOKE","SHUTDOWN"]}`)
	if s.id = head.Get("Lambda-Extension-Identifier"); s.id == "" {
		fail("register: %s", body)
	}
	ports := []int{s.port}
	if s.mode("two") {
		ports = append(ports, s.port+1)
	}
	for _, port := range ports {
		if s.mode("late") {
			time.AfterFunc(500*time.Millisecond, func() { s.listen(port) })
		} else {
			s.listen(port)
		}
		if !s.mode("closed") {
			s.subscribe(port)
		}
	}
	for n := 1; ; n++ {
		_, body := s.call("GET", "/2020-01-01/extension/event/next", "")
		switch {
		case bytes.Contains(body, []byte(`"SHUTDOWN"`)):
			s.finish()
		case !bytes.Contains(body, []byte(`"INVOKE"`)):
			fail("event/next: %s", body)
		case s.mode("closed") && n == 1:
			s.subscribe(s.port)
		case s.mode("crash") && n == 2:
			os.Exit(7)
		}
	}
}

func (s *subscriber) subscribe(port int) {
	types := `["platform","function"]`
	if s.mode("all") {
		types = `["platform","function","extension"]`
	}
	destination := fmt.Sprintf(`{"protocol":"HTTP","URI":"http://sandbox.localdomain:%d/path"}`, port)
	if s.parts[2] == "tcp" {
		destination = fmt.Sprintf(`{"protocol":"TCP","port":%d}`, port)
	}
	path := "/2022-07-01/telemetry"
	if s.parts[0] == "logs" {
		path = "/2020-08-15/logs"
	}
	_, body := s.call("PUT", path, fmt.Sprintf(`{"schemaVersion":%q,"types":%s,"buffering":{"timeoutMs":25,"maxBytes":262144,"maxItems":1000},"destination":%s}`,
		s.parts[1], types, destination))
	if strings.TrimSpace(string(body)) != `"OK"` {
		fmt.Printf("SUBSCRIPTION %s %s\n", s.name, bytes.TrimSpace(body))
	}
}

func (s *subscriber) listen(port int) {
	listener, err := net.Listen("tcp", fmt.Sprintf("sandbox.localdomain:%d", port))
	if err != nil {
		fail("listen: %v", err)
	}
	if s.parts[2] == "tcp" {
		go s.serveTCP(listener)
		return
	}
	go http.Serve(listener, http.HandlerFunc(s.serveHTTP))
}

func (s *subscriber) serveHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.batches++
	n := s.batches
	s.mu.Unlock()
	switch {
	case s.mode("stuck"):
		<-r.Context().Done()
		return
	case s.mode("fail") && n <= 2:
		http.Error(w, "not yet", http.StatusInternalServerError)
		return
	case s.mode("slow"):
		time.Sleep(200 * time.Millisecond) // archtest:sleep a subscriber that is slow
	}
	var batch []json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		fail("batch: %v", err)
	}
	for _, record := range batch {
		s.keep(record)
	}
}

func (s *subscriber) serveTCP(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		if s.mode("stuck") {
			continue
		}
		go func() {
			lines := bufio.NewReader(conn)
			for {
				line, err := lines.ReadBytes('\n')
				if err != nil {
					return
				}
				s.keep(bytes.TrimSpace(line))
			}
		}()
	}
}

func (s *subscriber) keep(record []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, string(record))
}

// finish waits a moment for the last records, prints all and exits.
func (s *subscriber) finish() {
	time.Sleep(600 * time.Millisecond) // archtest:sleep the platform does not say when it has sent all
	s.mu.Lock()
	defer s.mu.Unlock()
	out := bufio.NewWriter(os.Stdout)
	for _, record := range s.records {
		fmt.Fprintf(out, "RECORD %s\n", record)
	}
	fmt.Fprintf(out, "RECORDS %d\n", len(s.records))
	out.Flush()
	os.Exit(0)
}

func (s *subscriber) call(method, path, body string) (http.Header, []byte) {
	req, err := http.NewRequest(method, "http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+path, strings.NewReader(body))
	if err != nil {
		fail("%v", err)
	}
	req.Header.Set("Lambda-Extension-Name", s.name)
	if s.id != "" {
		req.Header.Set("Lambda-Extension-Identifier", s.id)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fail("%s: %v", path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		fail("%s: %v", path, err)
	}
	return resp.Header, answer
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}
