// Command probe is a runtime or an extension that does what it is told to, at
// the level of bytes: it sends the requests of a script to the Runtime API and
// writes down what comes back. Tests of the specification are tables of such
// requests. Run as `bootstrap` it is the runtime, else the extension of its
// file's name.
//
// The file probe.json beside the runtime holds a Plan. What was seen is kept in
// the file of results under /tmp, where it survives the end of the process and
// a reset, until an event with "take" asks for it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Plan is what the parties do, by name ("bootstrap" is the runtime).
type Plan map[string]Part

// Part is what one party does.
type Part struct {
	// Init is done first. An extension registers by itself when Register is
	// not empty and Init has not done it; the runtime begins to ask for events after Init.
	Init     []Step `json:"init,omitempty"`
	Register string `json:"register,omitempty"` // body of register
	// On holds the steps for each event type of an extension.
	On map[string][]Step `json:"on,omitempty"`
	// Term holds the steps at SIGTERM, after which the process exits; without
	// it the signal does what it does by default, and with Deaf nothing.
	Term []Step `json:"term,omitempty"`
	Deaf bool   `json:"deaf,omitempty"`
	// Once makes the first process of the name in an environment do the
	// above; the later ones only register, and poll.
	Once bool `json:"once,omitempty"`
}

// Event is what an invocation tells the runtime.
type Event struct {
	Take  bool   `json:"take,omitempty"`  // answer with the results so far
	Steps []Step `json:"steps,omitempty"` // do these, then answer with "done"
	Quiet bool   `json:"quiet,omitempty"` // the steps answer the invocation
	After []Step `json:"after,omitempty"` // do these after the answer
}

func main() {
	p := &party{name: filepath.Base(os.Args[0]), conns: map[string]*conn{}}
	var plan Plan
	if text, err := os.ReadFile("/var/task/probe.json"); err == nil {
		if err := json.Unmarshal(text, &plan); err != nil {
			p.die("probe.json: %v", err)
		}
	}
	part := plan[p.name]
	if part.Once {
		if err := os.Mkdir("/tmp/probe."+p.name, 0o700); err != nil {
			part = Part{Register: part.Register}
		}
	}
	if part.Deaf || len(part.Term) > 0 {
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, syscall.SIGTERM)
		go func() {
			for range terminated {
				if !part.Deaf {
					other := &party{name: p.name, conns: map[string]*conn{}}
					other.do(part.Term)
					os.Exit(0)
				}
			}
		}()
	}
	p.do(part.Init)
	if p.name == "bootstrap" {
		p.runtime()
	} else {
		p.extension(part)
	}
}

// die ends the process; the message goes to the function's log.
func (p *party) die(format string, args ...any) {
	fmt.Printf("probe "+p.name+": "+format+"\n", args...)
	os.Exit(111)
}

func (p *party) runtime() {
	const base = "/2018-06-01/runtime/invocation/"
	for {
		r := p.send(Step{Conn: "main", Send: "GET " + base + "next"})
		if r.Status != 200 {
			p.die("next: %+v", r)
		}
		var ev Event
		json.Unmarshal([]byte(r.Body), &ev) // an event of another form is echoed
		answer := r.Body
		if ev.Take {
			raw, _ := os.ReadFile(results) // no file: no results
			os.Remove(results)
			answer = "[" + strings.ReplaceAll(strings.TrimSpace(string(raw)), "\n", ",\n") + "]"
		} else if len(ev.Steps) > 0 {
			p.do(ev.Steps)
			answer = `"done"`
		}
		if !ev.Quiet {
			if r := p.send(Step{Conn: "main", Send: "POST " + base + "${id}/response\n\n" + answer}); r.Status != 202 {
				p.die("response: %+v", r)
			}
		}
		p.do(ev.After)
	}
}

func (p *party) extension(part Part) {
	if part.Register != "" && p.ext == "" {
		if r := p.send(Step{Conn: "main", Send: "POST /2020-01-01/extension/register\nLambda-Extension-Name: " + p.name + "\n\n" + part.Register}); r.Status != 200 {
			p.die("register: %+v", r)
		}
	}
	for {
		r := p.send(Step{Conn: "main", Send: "GET /2020-01-01/extension/event/next\nLambda-Extension-Identifier: ${ext}"})
		if r.Status != 200 {
			p.die("event/next: %+v", r)
		}
		r.Name = "event"
		p.note(r)
		var ev struct{ EventType string }
		if err := json.Unmarshal([]byte(r.Body), &ev); err != nil {
			p.die("event: %v", err)
		}
		if ev.EventType == "SHUTDOWN" {
			fmt.Println("probe", p.name, "gets", strings.TrimSpace(r.Body)) // /tmp may be about to go
		}
		p.do(part.On[ev.EventType])
		if ev.EventType == "SHUTDOWN" && !part.Deaf {
			os.Exit(0)
		}
	}
}

// results is the file that holds what all parties have seen, a line each.
const results = "/tmp/probe.results"

// note appends a result; one write is one line, whoever else writes.
func (p *party) note(r Result) {
	r.Party, r.At = p.name, time.Now().UnixMilli()
	line, err := json.Marshal(r)
	if err != nil {
		p.die("result: %v", err)
	}
	f, err := os.OpenFile(results, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		p.die("results: %v", err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		p.die("results: %v", err)
	}
}
