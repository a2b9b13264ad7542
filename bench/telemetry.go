package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/telemetryapi"
)

// telemetry measures what subscribed extensions cost: the platform's work per
// record, and the time that each adds to a warm invocation.
func (l *lab) telemetry(ctx context.Context) error {
	program, err := l.buildExtension(ctx)
	if err != nil {
		return err
	}
	node, err := l.node(ctx)
	if err != nil {
		return err
	}
	counts := []int{0, 1, 5}
	for _, n := range counts {
		if err := node.createExtended(ctx, fmt.Sprintf("extended%d", n), l.archive, program, n); err != nil {
			return err
		}
	}
	d := 2 * time.Second
	if l.quick {
		d = 500 * time.Millisecond
	}
	for range l.rounds {
		if err := l.throughput(ctx, program, d); err != nil {
			return err
		}
		const none = "warm, 1 caller, no extension"
		base := 0.0
		for _, n := range counts {
			request, err := node.prepare(ctx, fmt.Sprintf("extended%d", n), payload(1<<10))
			if err != nil {
				return err
			}
			got, err := load{callers: 1, duration: d, space: 5 * time.Millisecond}.run(ctx, request)
			if err != nil {
				return err
			}
			if n == 0 {
				l.book.durations(row{Name: none, Unit: "ms"}, got.took, 0)
				base = l.book.last(none)
				continue
			}
			name := fmt.Sprintf("warm, 1 caller, %d subscribed extension(s)", n)
			l.book.durations(row{Name: name, Unit: "ms", Floor: none, Target: target{Over: 0.2 * float64(n)}}, got.took, 0)
			l.book.value(row{Name: fmt.Sprintf("added to the caller per extension, of %d", n), Unit: "ms", Target: target{P50: 0.2}}, (l.book.last(name)-base)/float64(n))
		}
	}
	return nil
}

// throughput lets a hub carry as many records as one subscriber takes, and
// compares their number with the processor time of this process, which has the
// hub and nothing else.
func (l *lab) throughput(ctx context.Context, program string, d time.Duration) error {
	sink, err := startSink(ctx, program)
	if err != nil {
		return err
	}
	src := &telemetry.Source{Function: "bench", Version: "$LATEST"}
	hub := telemetryapi.New(telemetryapi.Config{
		Dial: func(ctx context.Context, _ int) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", sink.addr)
		},
		Source: src, Logger: slog.New(slog.DiscardHandler), Emit: func(lifecycle.Record) {},
	})
	hub.BeginInit()
	answer := hub.Subscribe("extension1", telemetryapi.Telemetry, []byte(`{"schemaVersion":"2022-12-13","types":["function"],`+
		`"buffering":{"timeoutMs":25,"maxBytes":262144,"maxItems":10000},"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:4001"}}`))
	if answer.Status != 200 {
		return fmt.Errorf("subscribe: %s", answer.Body)
	}
	hub.EndInit()
	line := bytes.Repeat([]byte("x"), 100)
	before, begin := processorTime(), time.Now()
	// Bursts as a function writes them, with room between them for the
	// subscriber: what is to be found is the cost of a record, not where a
	// full buffer drops it.
	for time.Since(begin) < d {
		for range 500 {
			hub.Line(telemetry.Line{Time: time.Now(), Text: line})
		}
		<-time.After(2 * time.Millisecond)
	}
	hub.Shutdown()
	<-time.After(100 * time.Millisecond)
	used := processorTime() - before
	hub.Close()
	records, err := sink.stop()
	if err != nil {
		return err
	}
	if records == 0 {
		return errors.New("the subscriber got nothing")
	}
	l.book.add(row{Name: "telemetry, processor time per record, one HTTP subscriber", Unit: "µs", Target: target{Rate: 200_000}},
		round{p50: used.Seconds() * 1e6 / float64(records), p99: nan(), rate: float64(records) / used.Seconds(), n: int(records)})
	return nil
}

// sink is the extension's program as a plain listener.
type sink struct {
	cmd  *exec.Cmd
	in   io.Closer
	out  *bufio.Reader
	addr string
}

func startSink(ctx context.Context, program string) (*sink, error) {
	s := &sink{cmd: exec.CommandContext(ctx, program, "127.0.0.1:0")}
	s.cmd.Stderr = os.Stderr
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.in, s.out = in, bufio.NewReader(out)
	addr, err := s.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, s.cmd.Wait())
	}
	s.addr = strings.TrimSpace(addr)
	return s, nil
}

// stop ends the listener and returns the number of records that it got.
func (s *sink) stop() (records int64, err error) {
	s.in.Close()
	var size int64
	_, err = fmt.Fscan(s.out, &records, &size)
	return records, errors.Join(err, s.cmd.Wait())
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (l *lab) buildExtension(ctx context.Context) (string, error) {
	program := filepath.Join(l.dir, "extension")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./bench/extension")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./bench/extension: %w\n%s", err, out)
	}
	return program, nil
}

// createExtended makes a function with n extensions that are subscribed.
func (n *node) createExtended(ctx context.Context, name string, code []byte, program string, extensions int) error {
	if err := n.create(ctx, name, 1769, code); err != nil || extensions == 0 {
		return err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i := range extensions {
		header := &zip.FileHeader{Name: fmt.Sprintf("extensions/extension%d", i+1), Method: zip.Deflate}
		header.SetMode(0o755)
		f, err := w.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := f.Write(content); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	layer, err := n.api.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{
		LayerName: aws.String(name), Content: &types.LayerVersionContentInput{ZipFile: buf.Bytes()},
	})
	if err != nil {
		return err
	}
	if _, err := n.api.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String(name), Layers: []string{*layer.LayerVersionArn},
	}); err != nil {
		return err
	}
	return lambda.NewFunctionUpdatedV2Waiter(n.api, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
	}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String(name)}, time.Minute)
}
