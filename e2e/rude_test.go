package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
)

// Bad input at every listener, from outside and from inside.

// TestRudeClients misuses the API from outside.
func TestRudeClients(t *testing.T) {
	t.Parallel()
	n := start(t, options{sandbox: "process", args: []string{"--auth", "none"}})
	n.create("f", function{timeout: 20})
	t.Run("malformed", func(t *testing.T) { malformedRequests(t, n) })
	t.Run("oversized", func(t *testing.T) { oversizedRequests(t, n) })
	t.Run("slow", func(t *testing.T) { slowClients(t, n) })
	t.Run("vanishing", func(t *testing.T) { vanishingClients(t, n) })
	n.stop()
}

// raw sends bytes to the API and returns the status and the rest of the
// answer, "" for a connection that was closed without one.
func raw(t testing.TB, n *node, text string) (status, rest string) {
	t.Helper()
	conn, err := net.Dial("tcp", n.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(conn, text)
	_ = err // the server may answer and close before it has read everything
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", ""
	}
	all, _ := io.ReadAll(r)
	_, status, _ = strings.Cut(strings.TrimSpace(line), " ")
	return status, string(all)
}

func malformedRequests(t *testing.T, n *node) {
	post := func(path, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	}
	for _, c := range []struct{ name, request, status, body string }{
		{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400", ""},
		{"no host", "GET /2015-03-31/functions/ HTTP/1.1\r\n\r\n", "400", ""},
		{"huge header", "GET /2015-03-31/functions/ HTTP/1.1\r\nHost: x\r\nX-Fill: " + strings.Repeat("y", 128<<10) + "\r\n\r\n", "431", ""},
		{"unknown path", "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404", ""},
		{"bad length", "POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Length: minus\r\n\r\n", "400", ""},
		{"two lengths", "POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "400", ""},
		{"bad escape", "GET /2015-03-31/functions/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400", ""},
		{"broken JSON", post("/2015-03-31/functions", `{"FunctionName":`), "400", "SerializationException"},
		{"wrong type", post("/2015-03-31/functions", `{"FunctionName":{}}`), "400", "SerializationException"},
		{"deep JSON", post("/2015-03-31/functions", strings.Repeat(`{"Code":`, 100_000)), "400", "SerializationException"},
		{"nothing in it", post("/2015-03-31/functions", `{}`), "400", "ValidationException"},
		{"bad base64", post("/2015-03-31/functions", `{"FunctionName":"x","Role":"`+role+`","Code":{"ZipFile":"***"}}`), "400", "SerializationException"},
		{"unknown function", post("/2015-03-31/functions/unknown/invocations", `{}`), "404", "ResourceNotFoundException"},
		{"bad name", post("/2015-03-31/functions/a%20b/invocations", `{}`), "400", "ValidationException"},
		{"traversal", post("/2015-03-31/functions/..%2f..%2fetc%2fpasswd/invocations", `{}`), "400", ""},
		{"payload no JSON", post("/2015-03-31/functions/f/invocations", `{"a":`), "400", "InvalidRequestContentException"},
		{"bad type", strings.Replace(post("/2015-03-31/functions/f/invocations", `{}`), "Host: x", "Host: x\r\nX-Amz-Invocation-Type: Loud", 1), "400", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, rest := raw(t, n, c.request)
			if !strings.HasPrefix(status, c.status) || !strings.Contains(rest, c.body) {
				t.Errorf("%q, want %s and %s in\n%s", status, c.status, c.body, rest)
			}
		})
	}
	n.succeed("f", order{})
}

func oversizedRequests(t *testing.T, n *node) {
	var large smithy.APIError
	_, err := n.client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: new("f"), Payload: []byte(`"` + strings.Repeat("x", 6<<20+200) + `"`)})
	if !errors.As(err, &large) || large.ErrorCode() != "RequestEntityTooLargeException" {
		t.Errorf("a payload over 6 MB: %v", err)
	}
	status, _ := raw(t, n, "POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000000\r\n\r\n{")
	if !strings.HasPrefix(status, "413") {
		t.Errorf("a request that announces 8 GB: %q", status)
	}
	if now, peak := n.resident(); peak > 400 {
		t.Errorf("firn uses %d MB, at most %d, after large requests", now, peak)
	}
	if payload := n.succeed("f", order{Do: "large", N: 6<<20 - 100}).payload; len(payload) != 6<<20-100 {
		t.Errorf("a response of nearly 6 MB comes back with %d bytes", len(payload))
	}
}

// slowClients holds many connections that say half a request; others are
// served, and the slow ones are let go.
func slowClients(t *testing.T, n *node) {
	var slow []net.Conn
	for range 300 {
		conn, err := net.Dial("tcp", n.address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\nContent-")
		slow = append(slow, conn)
	}
	if m := median(latencies(t, n, "f", 20)); m > time.Second {
		t.Errorf("an invocation beside slow clients takes %v", m)
	}
	for _, conn := range slow {
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a connection with half a request stays open: %v", err)
		}
	}
}

// vanishingClients leave while their function runs; it runs on to its end.
func vanishingClients(t *testing.T, n *node) {
	body := `{"do":"sleep","ms":300,"print":"began for nobody"}`
	request := fmt.Sprintf("POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	before := lines(n.out.String(), "began for nobody")
	for i := range 10 {
		conn, err := net.Dial("tcp", n.address())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, request)
		eventually(t, "the invocation began", func() (bool, any) {
			got := lines(n.out.String(), "began for nobody") - before
			return got == i+1, got
		})
		conn.Close()
	}
	// Half of a body, and gone.
	for range 10 {
		conn, err := net.Dial("tcp", n.address())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, request[:len(request)-5])
		conn.Close()
	}
	eventually(t, "ten invocations are reported", func() (bool, any) {
		got := lines(n.out.String(), "began for nobody") - before
		return got == 10, got
	})
	// Each had an environment of its own or one after another: at the end as
	// many reports were written as invocations began.
	eventually(t, "every invocation ends", func() (bool, any) {
		log := n.out.String()
		return lines(log, " · START ") == lines(log, " ✓ REPORT "), lines(log, " ✓ REPORT ")
	})
	n.succeed("f", order{})
}

// TestRudeFunctions misuses the Runtime API from inside.
func TestRudeFunctions(t *testing.T) {
	t.Parallel()
	backends(t, func(t *testing.T, sandbox string) {
		n := start(t, options{sandbox: sandbox, args: []string{"--network", "none"}})
		n.create("f", function{memory: 1024, timeout: 30})
		n.create("bystander", function{})
		n.succeed("bystander", order{})
		for _, c := range []struct {
			how   string
			n     int
			wants string
		}{
			{"half a head", 0, "closed|HTTP/1.1 400"},
			{"half a body", 0, "Runtime.TruncatedResponse"},
			{"broken chunk", 0, "Runtime.TruncatedResponse"},
			{"huge header", 0, "HTTP/1.1 431|write: |closed"},
			{"not http", 0, "HTTP/1.1 400|closed"},
			{"two lengths", 0, "HTTP/1.1 400"},
			{"connections", 1000, "opened "},
			{"never reads", 200_000, "written|stopped"},
		} {
			t.Run(c.how, func(t *testing.T) {
				a := n.invoke("f", order{Do: "rude", Arg: c.how, N: c.n})
				if !matchesAny(a.payload, c.wants) {
					t.Errorf("got %s, want one of %s", a.payload, c.wants)
				}
				n.succeed("f", order{Do: "info"})
				n.succeed("bystander", order{})
			})
		}
		t.Run("answer cut off", func(t *testing.T) {
			// Another answer follows at once on another connection; whichever is
			// heard of first counts.
			if a := n.invoke("f", order{Do: "hang up"}); a.payload != `"done"` && !strings.Contains(a.payload, "Runtime.TruncatedResponse") {
				t.Errorf("got %s %s", a.failure, a.payload)
			}
			n.succeed("f", order{Do: "info"})
		})
		t.Run("next cut off", func(t *testing.T) {
			n.succeed("f", order{Do: "drop next"})
			for range 5 {
				n.succeed("f", order{Do: "info"})
			}
		})
		if _, peak := n.resident(); peak > 300 {
			t.Errorf("firn used %d MB at most", peak)
		}
		n.stop()
	})
}

func matchesAny(text, alternatives string) bool {
	for word := range strings.SplitSeq(alternatives, "|") {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// TestFlood lets a function write as fast as it can. Another function's
// callers and firn's memory stay as they are, and the flood costs its own
// function alone.
func TestFlood(t *testing.T) {
	t.Parallel()
	backends(t, func(t *testing.T, sandbox string) {
		n := start(t, options{sandbox: sandbox, args: []string{"--network", "none"}})
		n.create("flood", function{memory: 3008, timeout: 60})
		n.create("bystander", function{})
		before := median(latencies(t, n, "bystander", 20))
		flooded := make(chan answer, 1)
		go func() {
			a, err := n.tryInvoke(context.Background(), "flood", order{Do: "flood", N: 500_000})
			if err != nil {
				t.Error(err)
			}
			flooded <- a
		}()
		during := median(latencies(t, n, "bystander", 60))
		a := <-flooded
		if a.failure != "" {
			t.Errorf("the flood: %s", a.payload)
		}
		if len(a.log) > 4<<10 || !strings.Contains(a.log, "REPORT RequestId") {
			t.Errorf("the log's tail has %d bytes:\n%s", len(a.log), tail(a.log, 300))
		}
		now, peak := n.resident()
		t.Logf("500,000 lines in %v; another function takes %v before and %v during it; firn holds %d MB, at most %d", a.took, before, during, now, peak)
		if during > time.Second {
			t.Errorf("another function takes %v during a flood, %v before", during, before)
		}
		if peak > 300 {
			t.Errorf("firn used %d MB at most", peak)
		}
		n.stop()
	})
}

// TestIdleUsesNoProcessor proves that nothing works for free: neither a
// thread that spins on after the answer nor a process that left its session.
func TestIdleUsesNoProcessor(t *testing.T) {
	needLinux(t)
	t.Parallel()
	backends(t, func(t *testing.T, sandbox string) {
		n := start(t, options{sandbox: sandbox, args: []string{"--network", "none", "--pool", "-1"}})
		n.create("f", function{memory: 1024, timeout: 2, layers: []string{n.layer("extension", "watcher")}})
		n.succeed("f", order{Do: "spin"})
		n.idleCPU(t)
		n.succeed("f", order{Do: "daemon", Arg: "spin"})
		n.idleCPU(t)
		n.succeed("f", order{})
		n.idleCPU(t)
		// A reset ends what the function has started, wherever it went.
		n.succeed("f", order{Do: "daemon", Arg: "wait"})
		// As the actor starts itself; a process that has just begun has no name.
		eventually(t, "two daemons live before the reset", func() (bool, any) {
			before := n.running("/proc/self/exe")
			return before == 2, before
		})
		if a := n.invoke("f", order{Do: "sleep", Ms: 10_000}); !strings.Contains(a.payload, "Sandbox.Timedout") {
			t.Errorf("no timeout: %s", a.payload)
		}
		n.succeed("f", order{})
		eventually(t, "no daemon lives after the reset", func() (bool, any) {
			after := n.running("/proc/self/exe")
			return after == 0, after
		})
		n.idleCPU(t)
		n.stop()
	})
}
