package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// bare is the floor under everything: the same bootstrap, started by fork and
// exec without any isolation, against a Runtime API that is only a socket.
type bare struct {
	program  string
	listener net.Listener
}

func newBare(program string) (*bare, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &bare{program: program, listener: l}, nil
}

func (b *bare) close() error { return b.listener.Close() }

// guest is a running bootstrap whose next waits for an event.
type guest struct {
	cmd  *exec.Cmd
	conn net.Conn
	in   *bufio.Reader
}

// start runs the bootstrap and returns when its first request is here.
func (b *bare) start() (*guest, error) {
	g := &guest{cmd: exec.Command(b.program)}
	g.cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + b.listener.Addr().String(), "PATH=/usr/bin:/bin", "LANG=en_US.UTF-8", "TZ=:UTC"}
	g.cmd.Stderr = os.Stderr
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	var err error
	if g.conn, err = b.listener.Accept(); err != nil {
		return nil, err
	}
	g.in = bufio.NewReaderSize(g.conn, 8<<10)
	_, err = g.readRequest()
	return g, err
}

func (g *guest) stop() {
	_ = g.cmd.Process.Kill() // it has ended by itself, or does now
	_ = g.cmd.Wait()
	g.conn.Close()
}

// readRequest reads a request and its body.
func (g *guest) readRequest() (length int64, err error) {
	for {
		line, err := g.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) == 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return 0, err
			}
		}
	}
	_, err = io.CopyN(io.Discard, g.in, length)
	return length, err
}

// invoke gives the guest an event and waits for its answer and its next
// request: two round trips.
func (g *guest) invoke(event []byte) error {
	head := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\nLambda-Runtime-Deadline-Ms: 1542409706888\r\nContent-Length: %d\r\n\r\n", len(event))
	buffers := net.Buffers{head, event}
	if _, err := buffers.WriteTo(g.conn); err != nil {
		return err
	}
	if n, err := g.readRequest(); err != nil || n != int64(len(event)) {
		return fmt.Errorf("the bare bootstrap answered %d bytes: %w", n, err)
	}
	if _, err := io.WriteString(g.conn, "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n"); err != nil {
		return err
	}
	_, err := g.readRequest()
	return err
}

// cold measures n starts.
func (b *bare) cold(n int) ([]time.Duration, error) {
	var took []time.Duration
	for range n {
		begin := time.Now()
		g, err := b.start()
		if err != nil {
			return nil, fmt.Errorf("floor of cold starts: %w", err)
		}
		took = append(took, time.Since(begin))
		g.stop()
	}
	return took, nil
}

// warm measures n invocations, one every space.
func (b *bare) warm(n int, event []byte, space time.Duration) ([]time.Duration, error) {
	g, err := b.start()
	if err != nil {
		return nil, err
	}
	defer g.stop()
	var took []time.Duration
	for range n {
		if space > 0 {
			<-time.After(space)
		}
		begin := time.Now()
		if err := g.invoke(event); err != nil {
			return nil, fmt.Errorf("floor of warm invocations: %w", err)
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}
