package dev

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden texts")

// TestMain is also the function of the tests: this binary, as bootstrap.
func TestMain(m *testing.M) {
	if api := os.Getenv("AWS_LAMBDA_RUNTIME_API"); api != "" {
		if err := function("http://" + api + "/2018-06-01/runtime/invocation/"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// function answers with what the file answer of its code says, and what came by
// way of the debug port. It reads the file once, as a module is.
func function(base string) error {
	answer, err := os.ReadFile(filepath.Join(os.Getenv("LAMBDA_TASK_ROOT"), "answer"))
	if err != nil {
		return err
	}
	heard := make(chan string, 1)
	if port := os.Getenv(debugVariable); port != "" {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		go listen(l, heard)
	}
	for {
		resp, err := http.Get(base + "next")
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		var event struct{ AwaitDebugger bool }
		if err := json.Unmarshal(body, &event); err != nil {
			return err
		}
		out := map[string]string{"answer": string(bytes.TrimSpace(answer)), "event": string(body)}
		if event.AwaitDebugger {
			out["debugger"] = <-heard
		}
		raw, err := json.Marshal(out)
		if err != nil {
			return err
		}
		resp, err = http.Post(base+resp.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "application/json", bytes.NewReader(raw))
		if err != nil {
			return err
		}
		resp.Body.Close()
	}
}

// listen is the function's debug server: it says "ready" and waits for a word.
func listen(l net.Listener, heard chan<- string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(conn, "ready")
		var word string
		fmt.Fscan(conn, &word)
		heard <- word
		conn.Close()
	}
}

// within is how long the tests wait for anything.
const within = 20 * time.Second
