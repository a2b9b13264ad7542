// Command first is the smallest function: it makes the first request that a
// runtime makes, by plain system calls, and waits.
package main

import (
	"strconv"
	"strings"
	"syscall"
)

func main() {
	api, _ := syscall.Getenv("AWS_LAMBDA_RUNTIME_API")
	_, port, _ := strings.Cut(api, ":")
	number, err := strconv.Atoi(port)
	if err != nil {
		syscall.Exit(2)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		syscall.Exit(3)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: number, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		syscall.Exit(4)
	}
	request := "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: " + api + "\r\n\r\n"
	if _, err := syscall.Write(fd, []byte(request)); err != nil {
		syscall.Exit(5)
	}
	_, _ = syscall.Read(fd, make([]byte, 1024)) // until the connection ends
}
