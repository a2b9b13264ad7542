package environment

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// subscriptionPlan is what one extension of a test subscribes to.
type subscriptionPlan struct {
	API       string // "telemetry" (also ""), "logs"
	Schema    string
	Types     []string
	TCP       bool
	Late      bool // subscribe at the first INVOKE
	Buffering map[string]int
}

func (p *subscriptionPlan) path() string {
	if p.API == "logs" {
		return "/2020-08-15/logs"
	}
	return "/2022-07-01/telemetry"
}

// subscriberMain is an extension that subscribes as PLAN says and hands on
// what it gets to the test's collector.
func subscriberMain(name string) int {
	var plans []subscriptionPlan
	if err := json.Unmarshal([]byte(os.Getenv("PLAN")), &plans); err != nil {
		panic(err)
	}
	collector, err := net.Dial("tcp", os.Getenv("COLLECTOR"))
	if err != nil {
		panic(err)
	}
	s := &subscriber{name: name, client: newClient(), out: json.NewEncoder(collector)}
	resp, _, err := s.client.do("POST", "/2020-01-01/extension/register", map[string]string{"Lambda-Extension-Name": name}, []byte(`{"events":["INVOKE","SHUTDOWN"]}`))
	if err != nil || resp.StatusCode != 200 {
		panic(fmt.Sprint("register: ", resp, err))
	}
	s.id = map[string]string{"Lambda-Extension-Identifier": resp.Header.Get("Lambda-Extension-Identifier")}
	for i, p := range plans {
		if !p.Late {
			s.subscribe(i, p)
		}
	}
	for {
		_, body, err := s.client.do("GET", "/2020-01-01/extension/event/next", s.id, nil)
		var ev struct{ EventType string }
		if err != nil || json.Unmarshal(body, &ev) != nil {
			panic(fmt.Sprintf("next: %s %v", body, err))
		}
		if ev.EventType == "SHUTDOWN" {
			time.Sleep(300 * time.Millisecond) // archtest:sleep what is left comes meanwhile
			return 0
		}
		for i, p := range plans {
			if p.Late {
				s.subscribe(i, p)
			}
		}
		if os.Getenv("SLOW") != "" {
			time.Sleep(200 * time.Millisecond) // archtest:sleep the extension's work
		}
	}
}

type subscriber struct {
	name   string
	id     map[string]string
	client *client

	mu  sync.Mutex
	out *json.Encoder
}

// message is what a subscriber tells the collector: an answer to a
// subscription, or a record.
type message struct {
	Name   string
	Plan   int
	Answer string          `json:",omitempty"`
	Record json.RawMessage `json:",omitempty"`
}

func (s *subscriber) tell(m message) {
	m.Name = s.name
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.out.Encode(m); err != nil {
		panic(err)
	}
}

func (s *subscriber) subscribe(i int, p subscriptionPlan) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	destination := map[string]any{"protocol": "HTTP", "URI": fmt.Sprintf("http://sandbox.localdomain:%d/in", ln.Addr().(*net.TCPAddr).Port)}
	if p.TCP {
		destination = map[string]any{"protocol": "TCP", "port": ln.Addr().(*net.TCPAddr).Port}
		go s.acceptLines(i, ln)
	} else {
		go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, err := io.ReadAll(r.Body)
			var batch []json.RawMessage
			if err == nil {
				err = json.Unmarshal(p, &batch)
			}
			if err != nil {
				panic(fmt.Sprintf("%s %v", p, err))
			}
			for _, rec := range batch {
				s.tell(message{Plan: i, Record: rec})
			}
		}))
	}
	body, err := json.Marshal(map[string]any{"schemaVersion": p.Schema, "types": p.Types, "destination": destination, "buffering": p.Buffering})
	if err != nil {
		panic(err)
	}
	resp, answer, err := s.client.do("PUT", p.path(), s.id, body)
	if err != nil {
		panic(err)
	}
	s.tell(message{Plan: i, Answer: fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(string(answer)))})
}

func (s *subscriber) acceptLines(i int, ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			lines := bufio.NewScanner(c)
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				s.tell(message{Plan: i, Record: json.RawMessage(lines.Text())})
			}
		}()
	}
}

// collector gathers what subscribers get, in the test's process.
type collector struct {
	addr string

	mu      sync.Mutex
	answers []string
	got     map[string][]got // by "name/plan"
	changed chan struct{}    // closed at the next message
}

// got is one record that a subscriber got.
type got struct {
	Time   time.Time
	Type   string
	Record json.RawMessage
}

// String is the type with what tests want to see of the record.
func (g got) String() string {
	var text string
	if json.Unmarshal(g.Record, &text) == nil {
		return g.Type + ": " + strings.TrimSuffix(text, "\n")
	}
	var rec struct{ Phase, Status, ErrorType, State, Name string }
	if json.Unmarshal(g.Record, &rec) != nil {
		return g.Type
	}
	return strings.Join(strings.Fields(strings.Join([]string{g.Type, rec.Name, rec.State, rec.Phase, rec.Status, rec.ErrorType}, " ")), " ")
}

func newCollector(t testing.TB) *collector {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{addr: ln.Addr().String(), got: map[string][]got{}, changed: make(chan struct{})}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go c.read(conn)
		}
	}()
	return c
}

func (c *collector) read(conn net.Conn) {
	defer conn.Close()
	for in := json.NewDecoder(conn); ; {
		var m message
		if in.Decode(&m) != nil {
			return
		}
		c.mu.Lock()
		if m.Answer != "" {
			c.answers = append(c.answers, m.Answer)
		} else {
			var g got
			if err := json.Unmarshal(m.Record, &g); err != nil {
				panic(err)
			}
			key := fmt.Sprintf("%s/%d", m.Name, m.Plan)
			c.got[key] = append(c.got[key], g)
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
	}
}

// records returns what a subscription ("name/0") has got so far.
func (c *collector) records(key string) []got {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got[key])
}

// replies returns the answers to n subscriptions.
func (c *collector) replies(t testing.TB, n int) (answers []string) {
	t.Helper()
	c.await(t, "answers", func() bool {
		answers = c.answers
		return len(answers) >= n
	})
	return slices.Clone(answers)
}

// await returns when done, which is called with the lock held, says so.
func (c *collector) await(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		c.mu.Lock()
		changed, ok := c.changed, done()
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no %s", what)
		}
	}
}

// waitFor returns what a subscription has got once n of its records begin with
// what is given.
func (c *collector) waitFor(t testing.TB, key, begin string, n int) (list []got) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s got\n%s", key, sequence(c.records(key)))
		}
	})
	c.await(t, begin+" for "+key, func() bool {
		list = c.got[key]
		count := 0
		for _, g := range list {
			if strings.HasPrefix(g.String(), begin) {
				count++
			}
		}
		return count >= n
	})
	return slices.Clone(list)
}

func sequence(list []got) string {
	var lines []string
	for _, g := range list {
		lines = append(lines, g.String())
	}
	return strings.Join(lines, "\n")
}

// subscribed is a fixture with an extension "sub" that follows the plans.
func subscribed(c *collector, f fixture, plans ...subscriptionPlan) fixture {
	p, err := json.Marshal(plans)
	must(err)
	vars := map[string]string{"EXT": "subscribe", "PLAN": string(p), "COLLECTOR": c.addr}
	for k, v := range f.vars {
		vars[k] = v
	}
	f.vars = vars
	if f.extensions == nil {
		f.extensions = []string{"sub"}
	}
	return f
}

// everything is a plan for the Telemetry API with the least delay.
func everything(types ...string) subscriptionPlan {
	if len(types) == 0 {
		types = []string{"platform", "function"}
	}
	return subscriptionPlan{Schema: "2022-12-13", Types: types, Buffering: map[string]int{"timeoutMs": 25}}
}
