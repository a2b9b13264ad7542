package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// rude misuses the Runtime API in the way that how names, in the middle of
// invocation id, and tells what it saw. The invocation itself is answered
// afterwards in the ordinary way.
func rude(how, id string, n int) string {
	path := "/2018-06-01/runtime/invocation/" + id + "/response"
	switch how {
	case "half a head":
		return speak("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Le")
	case "half a body":
		return speak("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"half\":")
	case "broken chunk":
		return speak("POST " + path + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	case "huge header":
		return speak("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\nX-Fill: " + strings.Repeat("y", 2<<20) + "\r\n\r\n")
	case "not http":
		return speak(strings.Repeat("\x16\x03\x01\x02", 100) + "\r\n\r\n")
	case "connections":
		return connections(n)
	case "never reads":
		return neverReads(id, n)
	case "two lengths":
		return speak("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}")
	}
	return "unknown misuse " + how
}

// speak sends raw bytes, ends its half, and returns the first line of the
// answer.
func speak(raw string) string {
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, raw); err != nil {
		return "write: " + err.Error()
	}
	conn.(*net.TCPConn).CloseWrite()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if line == "" && err != nil {
		return "closed"
	}
	return strings.TrimSpace(line)
}

// connections opens n connections, says half a request on each, and keeps
// them open until the invocation is over: they end with the process.
func connections(n int) string {
	opened := 0
	var held []net.Conn
	for range n {
		conn, err := net.DialTimeout("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"), 2*time.Second)
		if err != nil {
			return fmt.Sprintf("opened %d: %v", opened, err)
		}
		io.WriteString(conn, "GET /2018-06-01/ru")
		held = append(held, conn)
		opened++
	}
	for _, conn := range held {
		conn.Close()
	}
	return fmt.Sprintf("opened %d", opened)
}

// neverReads asks for n answers on one connection and reads none.
func neverReads(id string, n int) string {
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(3 * time.Second))
	for range n {
		if _, err := io.WriteString(conn, "POST /2018-06-01/runtime/invocation/"+id+"/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return "stopped"
		}
	}
	return "written"
}

// hangUp answers an invocation on a connection that is cut in the middle of
// the response's body, then says it again properly if it is let.
func hangUp(id string) {
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		fail("dial: %v", err)
	}
	fmt.Fprintf(conn, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"half\":", id)
	conn.Close()
}

// dropNext begins to wait for the next event on a connection and cuts it:
// what comes after must not be lost with it.
func dropNext() {
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		fail("dial: %v", err)
	}
	io.WriteString(conn, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
	conn.Close()
	http.DefaultClient.CloseIdleConnections()
}
