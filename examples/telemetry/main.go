// Command telemetry is an external Lambda extension that takes what the
// Telemetry API tells it (platform events and the function's log) and passes it
// on: to the address in DISPATCH_POST_URI, or else, as lines of JSON, to its own
// log. It sends when DISPATCH_MIN_BATCH_SIZE records are
// waiting at the begin of an invocation, and whatever is left at SHUTDOWN. It
// uses nothing but the documented APIs.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// listenAddress is where the records are received. The name is the one that
// the Telemetry API delivers to; it resolves inside of execution environments.
const listenAddress = "sandbox.localdomain:4243"

func main() {
	log.SetFlags(0)
	minimum, err := strconv.Atoi(os.Getenv("DISPATCH_MIN_BATCH_SIZE"))
	if err != nil {
		minimum = 1
	}
	e := &extension{
		api: "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API"), minimum: minimum,
		uri: os.Getenv("DISPATCH_POST_URI"),
	}
	if err := e.run(); err != nil {
		log.Fatal(err)
	}
}

type extension struct {
	api, id, uri string
	minimum      int

	mu    sync.Mutex
	queue []json.RawMessage
}

func (e *extension) run() error {
	if err := e.register(); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listenAddress)
	if err != nil {
		return err
	}
	receiver := &http.Server{Handler: http.HandlerFunc(e.receive)}
	go receiver.Serve(listener)
	if err := e.subscribe(); err != nil {
		log.Println(err) // the function is worth more than its telemetry
	}
	for {
		event, err := e.next()
		if err != nil {
			return err
		}
		if event == "SHUTDOWN" {
			// The last records come in the first moments of the shutdown.
			time.Sleep(500 * time.Millisecond) // archtest:sleep the platform does not say when it has sent all
			return e.dispatch(1)
		}
		if err := e.dispatch(e.minimum); err != nil {
			log.Println(err) // the records wait for the next attempt
		}
	}
}

// receive takes a batch. It answers only when it has the records: until then
// the platform keeps them.
func (e *extension) receive(w http.ResponseWriter, r *http.Request) {
	var batch []json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, batch...)
}

// dispatch passes the queue on when it holds enough.
func (e *extension) dispatch(minimum int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 || len(e.queue) < minimum {
		return nil
	}
	if err := e.send(e.queue); err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	e.queue = nil
	return nil
}

func (e *extension) send(records []json.RawMessage) error {
	if e.uri != "" {
		body, err := json.Marshal(records)
		if err != nil {
			return err
		}
		resp, err := http.Post(e.uri, "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			return errors.New(resp.Status)
		}
		return nil
	}
	for _, record := range records {
		fmt.Printf("%s\n", record)
	}
	return nil
}

func (e *extension) register() error {
	head, _, err := e.call("POST", "/2020-01-01/extension/register", map[string]string{
		"Lambda-Extension-Name": filepath.Base(os.Args[0]),
	}, `{"events":["INVOKE","SHUTDOWN"]}`)
	e.id = head.Get("Lambda-Extension-Identifier")
	return err
}

func (e *extension) subscribe() error {
	_, _, err := e.call("PUT", "/2022-07-01/telemetry", nil, `{
		"schemaVersion": "2022-12-13",
		"types": ["platform", "function"],
		"buffering": {"timeoutMs": 25, "maxBytes": 262144, "maxItems": 10000},
		"destination": {"protocol": "HTTP", "URI": "http://`+listenAddress+`"}
	}`)
	return err
}

func (e *extension) next() (event string, err error) {
	_, body, err := e.call("GET", "/2020-01-01/extension/event/next", nil, "")
	if err != nil {
		return "", err
	}
	var next struct{ EventType string }
	err = json.Unmarshal(body, &next)
	return next.EventType, err
}

// call makes one request to the platform, which must succeed.
func (e *extension) call(method, path string, head map[string]string, body string) (http.Header, []byte, error) {
	req, err := http.NewRequest(method, e.api+path, bytes.NewBufferString(body))
	if err != nil {
		return nil, nil, err
	}
	if e.id != "" {
		req.Header.Set("Lambda-Extension-Identifier", e.id)
	}
	for name, value := range head {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return resp.Header, answer, err
}
