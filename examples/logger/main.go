// Command logger is an external Lambda extension: a process of its own beside
// the function, in a layer under extensions/. It registers, writes a line for
// every event, and cleans up at SHUTDOWN. It uses nothing but the documented
// Extensions API.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	if err := run("http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2020-01-01/extension"); err != nil {
		log.Fatal(err)
	}
}

func run(api string) error {
	id, err := register(api)
	if err != nil {
		return err
	}
	fmt.Println("registered")
	for n := 1; ; n++ {
		event, err := next(api, id)
		if err != nil {
			return err
		}
		if event.EventType == "SHUTDOWN" {
			fmt.Printf("shutting down (%s) after %d invocations\n", event.ShutdownReason, n-1)
			return nil
		}
		fmt.Printf("invocation %d is %s\n", n, event.RequestID)
	}
}

func register(api string) (id string, err error) {
	req, err := http.NewRequest(http.MethodPost, api+"/register", bytes.NewBufferString(`{"events":["INVOKE","SHUTDOWN"]}`))
	if err != nil {
		return "", err
	}
	req.Header.Set("Lambda-Extension-Name", filepath.Base(os.Args[0]))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		return "", fmt.Errorf("register: %s: %s", resp.Status, body)
	}
	return resp.Header.Get("Lambda-Extension-Identifier"), nil
}

type event struct {
	EventType      string `json:"eventType"`
	RequestID      string `json:"requestId"`
	ShutdownReason string `json:"shutdownReason"`
}

// next waits for an event; without a time limit, since the environment is
// frozen in between.
func next(api, id string) (event, error) {
	var e event
	req, err := http.NewRequest(http.MethodGet, api+"/event/next", nil)
	if err != nil {
		return e, err
	}
	req.Header.Set("Lambda-Extension-Identifier", id)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return e, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return e, fmt.Errorf("next: %s", resp.Status)
	}
	return e, json.NewDecoder(resp.Body).Decode(&e)
}
