package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// perform does what an order says and returns the response, or an error to
// post instead.
func perform(n int, id string, header http.Header, event []byte, o order) (result, failure []byte) {
	switch o.Do {
	case "":
		return event, nil
	case "info":
		return encode(info(n, header)), nil
	case "sleep":
		time.Sleep(time.Duration(o.Ms) * time.Millisecond) // archtest:sleep the function's work
	case "exit":
		os.Exit(o.N)
	case "panic":
		panic("the function panics")
	case "signal":
		syscall.Kill(os.Getpid(), syscall.Signal(o.N))
		hang()
	case "error":
		return nil, []byte(`{"errorMessage":"` + o.Arg + `","errorType":"TestError"}`)
	case "large":
		return append(append([]byte{'"'}, bytes.Repeat([]byte{'x'}, o.N-2)...), '"'), nil
	case "flood":
		line := bytes.Repeat([]byte("flood "), 20)
		for range o.N {
			os.Stdout.Write(append(line, '\n'))
		}
	case "oom", "eat":
		eat(o.N)
	case "forks":
		return encode(fork(o.N)), nil
	case "fds":
		return encode(openAll()), nil
	case "fill":
		return encode(fill(o.Arg, o.N)), nil
	case "write":
		return encode(text(os.WriteFile(o.Arg, []byte(id), 0o644))), nil
	case "read":
		raw, err := os.ReadFile(o.Arg)
		if err != nil {
			return encode(err.Error()), nil
		}
		return encode(string(raw)), nil
	case "list":
		return encode(list(o.Arg)), nil
	case "dial":
		conn, err := net.DialTimeout("tcp", o.Arg, 2*time.Second)
		if err == nil {
			conn.Close()
		}
		return encode(text(err)), nil
	case "garbage":
		return encode(garbage(id)), nil
	case "run":
		out, err := exec.Command("/bin/sh", "-c", o.Arg).CombinedOutput()
		return encode(map[string]any{"out": string(out), "err": text(err)}), nil
	case "daemon":
		return encode(text(daemon(o.Arg))), nil
	case "spin":
		go func() {
			for {
				n++
			}
		}()
	case "escapes":
		return encode(escapes()), nil
	case "survey":
		return encode(survey()), nil
	case "connects":
		return encode(connects(o.Arg)), nil
	case "leak":
		leak(o.N)
	case "bomb":
		return encode(bomb()), nil
	case "setid":
		return encode(setID(o.Arg)), nil
	case "shared":
		return encode(shared()), nil
	case "lookup":
		addrs, err := net.LookupHost(o.Arg)
		return encode(map[string]any{"addrs": addrs, "err": text(err)}), nil
	case "cpu":
		return encode(cpuTime()), nil
	case "rude":
		return encode(rude(o.Arg, id, o.N)), nil
	case "hang up":
		hangUp(id)
	case "drop next":
		dropNext()
	default:
		return nil, []byte(`{"errorMessage":"unknown order ` + o.Do + `","errorType":"TestError"}`)
	}
	return []byte(`"done"`), nil
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		fail("encode: %v", err)
	}
	return raw
}

func text(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// info is what a function can see of itself.
func info(n int, header http.Header) map[string]any {
	env := os.Environ()
	sort.Strings(env)
	wd, _ := os.Getwd()
	host, _ := os.Hostname()
	head := map[string]string{}
	for key := range header {
		if strings.HasPrefix(key, "Lambda-") {
			head[key] = header.Get(key)
		}
	}
	return map[string]any{
		"invocation": n, "env": env, "header": head, "cwd": wd, "hostname": host,
		"uid": os.Getuid(), "gid": os.Getgid(), "pid": os.Getpid(), "args": os.Args,
		"interfaces": interfaces(), "processes": list("/proc"), "memory": os.Getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
	}
}

func interfaces() []string {
	all, err := net.Interfaces()
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, i := range all {
		out = append(out, i.Name)
	}
	return out
}

func list(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, e := range entries {
		if dir == "/proc" && strings.Trim(e.Name(), "0123456789") != "" {
			continue
		}
		out = append(out, e.Name())
	}
	return out
}

// eat takes n MB of memory and touches all of it.
func eat(n int) {
	var held [][]byte
	for range n {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		held = append(held, block)
	}
	fmt.Println("ate", len(held), "MB")
}

// fork starts children until it is refused or n live.
func fork(n int) map[string]any {
	var children []*exec.Cmd
	var refused error
	for range n {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "ACTOR_CHILD=wait")
		if refused = cmd.Start(); refused != nil {
			break
		}
		children = append(children, cmd)
	}
	for _, cmd := range children {
		cmd.Process.Kill()
		cmd.Wait()
	}
	return map[string]any{"started": len(children), "refused": text(refused)}
}

// child is a process started by the function.
func child(mode string) {
	switch mode {
	case "wait":
		hang()
	case "spin":
		//lint:ignore SA5002 burning the processor is the point
		for {
		}
	case "bomb":
		for {
			bomb()
		}
	case "ids":
		fmt.Println(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid())
	}
}

// daemon starts a process that leaves the function's session and group.
func daemon(mode string) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "ACTOR_CHILD="+mode)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

func openAll() map[string]any {
	var files []*os.File
	for {
		f, err := os.Open("/dev/null")
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return map[string]any{"opened": len(files), "refused": err.Error()}
		}
		files = append(files, f)
	}
}

// cpuTime is the processor time that the function and everything it has
// started and waits for used, in microseconds: of all processes it can see.
func cpuTime() map[string]int64 {
	out := map[string]int64{}
	for _, pid := range list("/proc") {
		raw, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		user, _ := strconv.ParseInt(fields[11], 10, 64)
		system, _ := strconv.ParseInt(fields[12], 10, 64)
		out[pid] = (user + system) * 10_000
	}
	return out
}

// fill writes n MB to a file.
func fill(path string, n int) map[string]any {
	f, err := os.Create(path)
	if err != nil {
		return map[string]any{"written": 0, "refused": err.Error()}
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for i := range n {
		if _, err := f.Write(block); err != nil {
			return map[string]any{"written": i, "refused": err.Error()}
		}
	}
	return map[string]any{"written": n, "refused": ""}
}

// garbage says wrong things to the Runtime API and returns the statuses.
func garbage(id string) map[string]int {
	const base = "/2018-06-01/runtime"
	try := func(method, path string, header map[string]string, body string) int {
		resp, _, err := call(method, path, header, []byte(body))
		if err != nil {
			return -1
		}
		return resp.StatusCode
	}
	return map[string]int{
		"unknown id":      try("POST", base+"/invocation/11111111-2222-3333-4444-555555555555/response", nil, "{}"),
		"bad mode":        try("POST", base+"/invocation/"+id+"/response", map[string]string{"Lambda-Runtime-Function-Response-Mode": "loud"}, "{}"),
		"init error late": try("POST", base+"/init/error", nil, "{}"),
		"unknown route":   try("GET", base+"/nothing", nil, ""),
		"wrong method":    try("DELETE", base+"/invocation/next", nil, ""),
		"register late":   try("POST", "/2020-01-01/extension/register", map[string]string{"Lambda-Extension-Name": "late"}, `{"events":["INVOKE"]}`),
		"register broken": try("POST", "/2020-01-01/extension/register", map[string]string{"Lambda-Extension-Name": "late"}, `{"events":`),
		"next without id": try("GET", "/2020-01-01/extension/event/next", nil, ""),
	}
}
