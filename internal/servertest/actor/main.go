// Command actor is the function and the extension of firn's own tests: one
// static program that does what its event tells it to, well or badly. Run as
// `bootstrap` it is a runtime of its own; under any other name it is an
// extension of that name. It speaks the documented APIs over plain HTTP.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	name := filepath.Base(os.Args[0])
	if mode := os.Getenv("ACTOR_CHILD"); mode != "" {
		child(mode)
		return
	}
	if name == "bootstrap" {
		runtime()
		return
	}
	extension(name)
}

func api() string { return "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") }

// call makes one request and returns its answer with the body read.
func call(method, path string, header map[string]string, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequest(method, api()+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for key, value := range header {
		req.Header.Set(key, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp, raw, err
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

// handlerMode are words in the function's handler ("sigterm,init-exit") that
// change what happens outside of events.
func handlerMode(word string) bool {
	for mode := range strings.SplitSeq(os.Getenv("_HANDLER"), ",") {
		if mode == word {
			return true
		}
	}
	return false
}

func runtime() {
	if handlerMode("sigterm") {
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, syscall.SIGTERM)
		go func() {
			<-terminated
			fmt.Println("runtime received SIGTERM")
			os.Exit(0)
		}()
	}
	if !handlerMode("quiet") {
		fmt.Println("runtime initializing")
	}
	switch {
	case handlerMode("init-exit"):
		os.Exit(3)
	case handlerMode("init-error"):
		call("POST", "/2018-06-01/runtime/init/error", map[string]string{"Lambda-Runtime-Function-Error-Type": "Runtime.NoSuchHandler"},
			[]byte(`{"errorMessage":"no such handler","errorType":"Runtime.NoSuchHandler","stackTrace":[]}`))
		os.Exit(1)
	case handlerMode("init-hang"):
		hang()
	}
	for n := 1; ; n++ {
		resp, event, err := call("GET", "/2018-06-01/runtime/invocation/next", nil, nil)
		if err != nil {
			fail("next: %v", err)
		}
		if resp.StatusCode != http.StatusOK {
			fail("next: %s: %s", resp.Status, event)
		}
		act(n, resp.Header, event)
	}
}

// order is what an event tells the function to do.
type order struct {
	Do      string `json:"do"`
	Arg     string `json:"arg"`
	N       int    `json:"n"`
	Ms      int    `json:"ms"`
	Print   string `json:"print"`
	AfterMs int    `json:"afterMs"` // work after the response
	Size    int    `json:"size"`    // of a chunk of a stream
	Type    string `json:"type"`    // content type of a stream
	Prelude string `json:"prelude"` // comes before the chunks of a stream
}

func act(n int, header http.Header, event []byte) {
	id := header.Get("Lambda-Runtime-Aws-Request-Id")
	var o order
	json.Unmarshal(event, &o) // an event that is no order is echoed
	if o.Print != "" {
		fmt.Println(o.Print)
	}
	if o.Do == "stream" {
		stream(id, o)
		time.Sleep(time.Duration(o.AfterMs) * time.Millisecond) // archtest:sleep the function's work
		return
	}
	result, failure := perform(n, id, header, event, o)
	path := "/2018-06-01/runtime/invocation/" + id + "/response"
	head := map[string]string{"Content-Type": "application/json"}
	if failure != nil {
		path = "/2018-06-01/runtime/invocation/" + id + "/error"
		head["Lambda-Runtime-Function-Error-Type"] = "Function.TestError"
		result = failure
	}
	resp, body, err := call("POST", path, head, result)
	if err != nil {
		fail("response: %v", err)
	}
	if resp.StatusCode != http.StatusAccepted {
		fmt.Printf("response refused: %d %s\n", resp.StatusCode, bytes.TrimSpace(body))
	}
	if o.AfterMs > 0 {
		time.Sleep(time.Duration(o.AfterMs) * time.Millisecond) // archtest:sleep the function's work
	}
}

func extension(name string) {
	if strings.HasPrefix(name, "crash-at-start") {
		os.Exit(4)
	}
	events := `{"events":["INVOKE","SHUTDOWN"]}`
	switch {
	case strings.HasPrefix(name, "shutdown-only"):
		events = `{"events":["SHUTDOWN"]}`
	case strings.HasPrefix(name, "silent"):
		events = `{"events":[]}`
	}
	fmt.Printf("%s registering\n", name)
	resp, body, err := call("POST", "/2020-01-01/extension/register", map[string]string{"Lambda-Extension-Name": name}, []byte(events))
	if err != nil || resp.StatusCode != http.StatusOK {
		fail("register: %v %s", err, body)
	}
	id := map[string]string{"Lambda-Extension-Identifier": resp.Header.Get("Lambda-Extension-Identifier")}
	if strings.HasPrefix(name, "init-error") {
		id["Lambda-Extension-Function-Error-Type"] = "Extension.ConfigInvalid"
		call("POST", "/2020-01-01/extension/init/error", id, nil)
		os.Exit(1)
	}
	for {
		resp, body, err := call("GET", "/2020-01-01/extension/event/next", id, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			fail("event/next: %v %s", err, body)
		}
		var event struct {
			EventType, ShutdownReason, RequestID string
		}
		if err := json.Unmarshal(body, &event); err != nil {
			fail("event: %v", err)
		}
		if event.EventType == "SHUTDOWN" {
			fmt.Printf("%s received SHUTDOWN %s\n", name, event.ShutdownReason)
			os.Exit(0)
		}
		fmt.Printf("%s received INVOKE\n", name)
		switch {
		case strings.HasPrefix(name, "slow"):
			time.Sleep(2 * time.Second) // archtest:sleep the extension's work
			fmt.Printf("%s done\n", name)
		case strings.HasPrefix(name, "crash"):
			os.Exit(5)
		}
	}
}

// hang does nothing for ever. An empty select would not do: a program without
// any other goroutine ends in it, as a deadlock.
func hang() {
	for {
		time.Sleep(time.Hour) // archtest:sleep hanging is the point
	}
}
