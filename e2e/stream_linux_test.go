package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// streamed is what a client has seen of a stream.
type streamed struct {
	bytes    int
	first    time.Duration // from the request to the first chunk
	took     time.Duration
	complete *types.InvokeWithResponseStreamCompleteEvent
}

// stream invokes name and reads its answer; each is told of every chunk.
func (n *node) stream(ctx context.Context, name string, o order, each func(soFar int)) (s streamed, err error) {
	event, err := json.Marshal(o)
	if err != nil {
		return s, err
	}
	begun := time.Now()
	out, err := n.streamClient().InvokeWithResponseStream(ctx, &lambda.InvokeWithResponseStreamInput{FunctionName: &name, Payload: event})
	if err != nil {
		return s, err
	}
	events := out.GetStream()
	defer events.Close()
	for e := range events.Events() {
		switch e := e.(type) {
		case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
			if s.bytes == 0 {
				s.first = time.Since(begun)
			}
			s.bytes += len(e.Value.Payload)
			if each != nil {
				each(s.bytes)
			}
		case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
			s.complete = &e.Value
		}
	}
	s.took = time.Since(begun)
	if err := events.Err(); err != nil {
		return s, err
	}
	if s.complete == nil {
		return s, fmt.Errorf("%d bytes and no InvokeComplete", s.bytes)
	}
	return s, nil
}

// streamClient is a client for one stream. The SDK's share a buffer between
// their streams, and close the body of their request while it is written when
// the answer comes early, if it has a method WriteTo.
func (n *node) streamClient() *lambda.Client {
	o := n.client.Options()
	o.HTTPClient = &http.Client{Transport: plainBodies{&http.Transport{}}}
	return lambda.New(o)
}

// plainBodies hides that bodies have a method WriteTo.
type plainBodies struct{ *http.Transport }

func (p plainBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.Transport.RoundTrip(r)
}

// memory is what the firn process has of it, in bytes.
func (n *node) memory() int {
	n.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	_, line, _ := bytes.Cut(raw, []byte("VmRSS:"))
	var kb int
	if _, err := fmt.Sscanf(string(line), "%d", &kb); err != nil {
		n.t.Fatal(err)
	}
	return kb << 10
}

// watch samples the memory until the returned function is called, which tells
// the highest.
func (n *node) watch() (highest func() int) {
	stop := make(chan struct{})
	done := make(chan int)
	go func() {
		most := 0
		for {
			most = max(most, n.memory())
			select {
			case <-stop:
				done <- most
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() int { close(stop); return <-done }
}

const (
	streamedMB  = firn.MaxStreamedBytes / firn.MiB
	memoryBound = 32 << 20
)

// TestStreams: answers of the greatest size, one and several at once, with a
// client that is as fast as firn and one that is not.
func TestStreams(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", "none", "--quiet", "--stream-mbps", "0"}})
	n.create("f", function{memory: 512})
	whole := order{Do: "stream", N: streamedMB, Size: firn.MiB}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	check := func(what string, want int, s streamed, err error) {
		t.Helper()
		if err != nil || s.bytes != want || s.complete.ErrorCode != nil {
			t.Errorf("%s: %v, %d bytes, %+v", what, err, s.bytes, s.complete)
		}
		t.Logf("%s: first byte after %v, %.0f MB/s", what, s.first.Round(time.Millisecond), float64(s.bytes)/1e6/s.took.Seconds())
	}
	if _, err := n.stream(ctx, "f", order{Do: "stream", N: 1}, nil); err != nil { // a cold start
		t.Fatal(err)
	}
	base := n.memory()

	highest := n.watch()
	s, err := n.stream(ctx, "f", whole, nil)
	check("one", firn.MaxStreamedBytes, s, err)
	if s.first > s.took/2 {
		t.Errorf("the first byte came after %v of %v", s.first, s.took)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			s, err := n.stream(ctx, "f", order{Do: "stream", N: 50, Size: firn.MiB}, nil)
			check("one of four", 50*firn.MiB, s, err)
		})
	}
	group.Wait()
	paused := false
	s, err = n.stream(ctx, "f", whole, func(soFar int) {
		if !paused && soFar > 20*firn.MiB {
			paused = true
			<-time.After(2 * time.Second)
		}
	})
	check("with a pause", firn.MaxStreamedBytes, s, err)
	if most := highest(); most > base+memoryBound {
		t.Errorf("firn's memory went from %d to %d MB", base>>20, most>>20)
	} else {
		t.Logf("firn's memory went from %d to %d MB", base>>20, most>>20)
	}

	one := order{Do: "stream", N: streamedMB + 1, Size: firn.MiB}
	if s, err = n.stream(ctx, "f", one, nil); err != nil || s.bytes != firn.MaxStreamedBytes || aws.ToString(s.complete.ErrorCode) != "Function.ResponseSizeTooLarge" {
		t.Errorf("over the limit: %v, %d bytes, %+v", err, s.bytes, s.complete)
	}
	n.succeed("f", order{Do: "info"})
	n.stop()
}

// TestStreamBandwidth: 6 MB at once, then 2 MB per second.
func TestStreamBandwidth(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", "none"}})
	n.create("f", function{memory: 512})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var burst time.Duration
	begun := time.Now()
	s, err := n.stream(ctx, "f", order{Do: "stream", N: 10, Size: firn.MiB}, func(soFar int) {
		if burst == 0 && soFar >= 6*firn.MiB {
			burst = time.Since(begun)
		}
	})
	if err != nil || s.bytes != 10*firn.MiB {
		t.Fatal(err, s.bytes)
	}
	if rest := s.took - burst; rest < 1700*time.Millisecond || rest > 4*time.Second || burst > time.Second {
		t.Errorf("6 MB took %v, and 4 MB more %v", burst, rest)
	}
	n.stop()
}

// TestStreamsEnd: what a client sees of streams that do not end well, and that
// the next invocation does not notice.
func TestStreamsEnd(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", "none"}})
	n.create("f", function{memory: 128, timeout: 2})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, test := range []struct{ arg, code, details string }{
		{"trailer", "Function.Midway", `{"errorMessage":"midway","errorType":"Function.Midway"}`},
		{"exit", "Runtime.TruncatedResponse", "Runtime.ExitError"},
		{"oom", "Runtime.TruncatedResponse", "Runtime.OutOfMemory"},
		{"hang", "Sandbox.Timedout", "Task timed out after 2.00 seconds"},
		{"hang up", "Runtime.TruncatedResponse", "Response was truncated"},
	} {
		if test.arg == "oom" {
			needMemoryCgroup(t, n)
		}
		s, err := n.stream(ctx, "f", order{Do: "stream", N: 3, Size: 1000, Arg: test.arg}, nil)
		if err != nil || s.bytes != 3000 {
			t.Errorf("%s: %v, %d bytes", test.arg, err, s.bytes)
			continue
		}
		if code, details := aws.ToString(s.complete.ErrorCode), aws.ToString(s.complete.ErrorDetails); code != test.code || !strings.Contains(details, test.details) {
			t.Errorf("%s: %s, %s", test.arg, code, details)
		}
		n.succeed("f", order{Do: "info"})
	}
	n.stop()
}
