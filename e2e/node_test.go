package e2e

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// patience bounds every wait for something that takes moments on an idle
// machine.
const patience = 60 * time.Second

// role is the execution role of every function.
const role = "arn:aws:iam::123456789012:role/test"

// node is a firn process under test.
type node struct {
	t      testing.TB
	data   string
	cmd    *exec.Cmd
	out    *transcript
	client *lambda.Client
	url    string
	done   chan struct{} // closed when the process has ended
	fail   error         // of the process, once done
	// tolerate says that the log may hold errors: the test makes them.
	tolerate bool
}

// options of start.
type options struct {
	data    string   // data directory, "" for a new one
	args    []string // further arguments of `firn up`
	sandbox string   // "" is linux
	user    uint32   // user and group id to run as, 0 for the test's own
}

// start runs `firn up` and waits until it serves. The test's end ends it.
func start(t testing.TB, o options) *node {
	t.Helper()
	n := launch(t, o)
	select {
	case <-n.out.await("AWS_SECRET_ACCESS_KEY="):
	case <-n.done:
		t.Fatalf("firn ended: %v\n%s", n.fail, n.out)
	case <-time.After(patience):
		t.Fatalf("firn does not come up:\n%s", n.out)
	}
	n.connect()
	return n
}

// launch runs `firn up` and does not wait.
func launch(t testing.TB, o options) *node {
	t.Helper()
	if o.data == "" {
		o.data = filepath.Join(t.TempDir(), "data")
	}
	if o.sandbox == "" {
		o.sandbox = "linux"
	}
	argv := append([]string{"up", "--listen", "127.0.0.1:0", "--data", o.data, "--sandbox", o.sandbox}, o.args...)
	n := &node{t: t, data: o.data, out: newTranscript(), done: make(chan struct{})}
	n.cmd = exec.Command(program("firn"), argv...)
	n.cmd.Stdout, n.cmd.Stderr = n.out, n.out
	n.cmd.Dir = "/"
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithTest(n.cmd.SysProcAttr)
	if o.user != 0 {
		n.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: o.user, Gid: o.user}
		n.cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		n.fail = n.cmd.Wait()
		close(n.done)
	}()
	t.Cleanup(n.cleanup)
	return n
}

// cleanup ends the process if the test has not, and looks at its log.
func (n *node) cleanup() {
	select {
	case <-n.done:
	default:
		n.signal(syscall.SIGINT)
		n.signal(syscall.SIGTERM) // the second one ends it at once
		select {
		case <-n.done:
		case <-time.After(patience):
			n.t.Errorf("firn does not end")
			n.cmd.Process.Kill()
			<-n.done
		}
	}
	log := n.out.String()
	if !n.tolerate && (strings.Contains(log, "level=ERROR") || strings.Contains(log, "panic:") || strings.Contains(log, "DATA RACE")) {
		n.t.Errorf("firn reports an error of its own:\n%s", errorLines(log))
	}
	if n.t.Failed() {
		n.t.Logf("firn's output:\n%s", tail(log, 3000))
	}
}

func errorLines(log string) string {
	var out strings.Builder
	for line := range strings.Lines(log) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic:") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// connect makes the client from what firn printed.
func (n *node) connect() {
	n.t.Helper()
	var key, secret string
	out := n.out.String()
	for name, value := range map[string]*string{
		"AWS_ENDPOINT_URL_LAMBDA": &n.url, "AWS_ACCESS_KEY_ID": &key, "AWS_SECRET_ACCESS_KEY": &secret,
	} {
		m := regexp.MustCompile(name + `=(\S+)\n`).FindStringSubmatch(out)
		if m == nil {
			n.t.Fatalf("firn does not print %s:\n%s", name, out)
		}
		*value = m[1]
	}
	n.client = lambda.New(lambda.Options{
		Region: "us-east-1", BaseEndpoint: &n.url, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""),
	})
}

// address is the API's host and port.
func (n *node) address() string { return strings.TrimPrefix(n.url, "http://") }

func (n *node) signal(s syscall.Signal) { n.cmd.Process.Signal(s) } // a process that has ended takes none

// wait waits for the end of the process and returns its error.
func (n *node) wait() error {
	n.t.Helper()
	select {
	case <-n.done:
	case <-time.After(patience):
		n.t.Fatalf("firn does not end:\n%s", tail(n.out.String(), 4000))
	}
	return n.fail
}

// stop ends firn in order and demands that it says so.
func (n *node) stop() {
	n.t.Helper()
	n.signal(syscall.SIGINT)
	if err := n.wait(); err != nil {
		n.t.Errorf("firn ended with: %v", err)
	}
	if !strings.Contains(n.out.String(), "everything it started is gone") {
		n.t.Errorf("firn does not say that it has ended:\n%s", tail(n.out.String(), 2000))
	}
}

// function describes one to create; zero fields take defaults.
type function struct {
	handler string // modes of the actor
	memory  int32
	timeout int32
	storage int32
	layers  []string
	files   map[string]file // of the archive; the actor as bootstrap when nil
	// variables are the function's own.
	variables map[string]string
}

// create makes a function and waits until it is active.
func (n *node) create(name string, f function) {
	n.t.Helper()
	if err := n.tryCreate(name, f); err != nil {
		n.t.Fatalf("create %s: %v", name, err)
	}
}

func (n *node) tryCreate(name string, f function) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if f.files == nil {
		f.files = map[string]file{"bootstrap": {from: program("actor")}}
	}
	if f.handler == "" {
		f.handler = "plain"
	}
	if f.timeout == 0 {
		f.timeout = 60
	}
	in := &lambda.CreateFunctionInput{
		FunctionName: &name, Role: aws.String(role), Runtime: types.RuntimeProvidedal2023, Handler: &f.handler,
		Timeout: &f.timeout, Layers: f.layers, Code: &types.FunctionCode{ZipFile: archive(n.t, f.files)},
	}
	if f.memory != 0 {
		in.MemorySize = &f.memory
	}
	if f.variables != nil {
		in.Environment = &types.Environment{Variables: f.variables}
	}
	if f.storage != 0 {
		in.EphemeralStorage = &types.EphemeralStorage{Size: &f.storage}
	}
	if _, err := n.client.CreateFunction(ctx, in); err != nil {
		return err
	}
	return n.active(ctx, name)
}

func (n *node) active(ctx context.Context, name string) error {
	quick := func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 200*time.Millisecond
	}
	return lambda.NewFunctionActiveV2Waiter(n.client, quick).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &name}, patience)
}

// layer publishes one with an actor as extension and returns its ARN.
func (n *node) layer(name string, extensions ...string) string {
	n.t.Helper()
	files := map[string]file{}
	for _, e := range extensions {
		files["extensions/"+e] = file{from: program("actor")}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := n.client.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{
		LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: archive(n.t, files)},
	})
	if err != nil {
		n.t.Fatalf("publish layer %s: %v", name, err)
	}
	return *out.LayerVersionArn
}

// order is what the actor is told; see internal/servertest/actor.
type order struct {
	Do      string `json:"do"`
	Arg     string `json:"arg,omitempty"`
	N       int    `json:"n,omitempty"`
	Ms      int    `json:"ms,omitempty"`
	Print   string `json:"print,omitempty"`
	AfterMs int    `json:"afterMs,omitempty"`
	Size    int    `json:"size,omitempty"`
}

// answer is what an invoker gets.
type answer struct {
	payload string
	failure string // X-Amz-Function-Error
	log     string
	took    time.Duration
}

// into decodes the payload of an invocation that must have succeeded.
func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if a.failure != "" {
		t.Fatalf("the function failed: %s\n%s", a.payload, a.log)
	}
	if err := json.Unmarshal([]byte(a.payload), v); err != nil {
		t.Fatalf("%v in %s", err, a.payload)
	}
}

// invoke runs a function; the API must not refuse.
func (n *node) invoke(name string, o order) answer {
	n.t.Helper()
	a, err := n.tryInvoke(context.Background(), name, o)
	if err != nil {
		n.t.Fatalf("invoke %s with %+v: %v", name, o, err)
	}
	return a
}

// succeed runs a function that must succeed.
func (n *node) succeed(name string, o order) answer {
	n.t.Helper()
	a := n.invoke(name, o)
	if a.failure != "" {
		n.t.Fatalf("invoke %s with %+v: %s\n%s", name, o, a.payload, a.log)
	}
	return a
}

func (n *node) tryInvoke(ctx context.Context, name string, o order) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	event, err := json.Marshal(o)
	if err != nil {
		return answer{}, err
	}
	begun := time.Now()
	out, err := n.client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: event, LogType: types.LogTypeTail})
	if err != nil {
		return answer{}, err
	}
	log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	return answer{string(out.Payload), aws.ToString(out.FunctionError), string(log), time.Since(begun)}, err
}

// file is one entry of an archive.
type file struct {
	from string // file on disk, or
	text string
	mode os.FileMode // 0755 when 0
}

// archive makes a zip file in memory.
func archive(t testing.TB, files map[string]file) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for name, f := range files {
		content := []byte(f.text)
		if f.from != "" {
			var err error
			if content, err = os.ReadFile(f.from); err != nil {
				t.Fatal(err)
			}
		}
		// Stored: squeezing the actor would be most of the tests' work.
		header := &zip.FileHeader{Name: name, Method: zip.Store}
		if f.mode == 0 {
			f.mode = 0o755
		}
		header.SetMode(f.mode)
		entry, err := w.CreateHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := entry.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// transcript collects output and tells when it holds a text.
type transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer
	waiters map[string]chan struct{}
}

func newTranscript() *transcript { return &transcript{waiters: map[string]chan struct{}{}} }

// keepOutput bounds what a flood leaves in memory: the first half is kept for
// good, and the end.
const keepOutput = 4 << 20

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.text.Len() > keepOutput {
		kept := slices.Concat(o.text.Bytes()[:keepOutput/2], []byte("\n...\n"), o.text.Bytes()[o.text.Len()-keepOutput/4:])
		o.text.Reset()
		o.text.Write(kept)
	}
	o.text.Write(p)
	for text, found := range o.waiters {
		if bytes.Contains(o.text.Bytes(), []byte(text)) {
			close(found)
			delete(o.waiters, text)
		}
	}
	return len(p), nil
}

// await returns a channel that is closed once the output holds the text.
func (o *transcript) await(text string) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	found, ok := o.waiters[text]
	if ok {
		return found
	}
	found = make(chan struct{})
	if bytes.Contains(o.text.Bytes(), []byte(text)) {
		close(found)
	} else {
		o.waiters[text] = found
	}
	return found
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

var _ io.Writer = (*transcript)(nil)

// eventually polls a condition of another process, which gives no event to
// wait for.
func eventually(t testing.TB, what string, condition func() (ok bool, state any)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, state := condition()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come true: %v", what, fmt.Sprint(state))
		}
		time.Sleep(25 * time.Millisecond) // archtest:sleep polls another process's state
	}
}
