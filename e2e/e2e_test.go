// Package e2e runs firn as its users do: the real binary, the real API through
// an SDK client, real sandboxes. The scripts in testdata are acceptance tests
// that a user of Lambda can read; README's tour is run as it is printed.
package e2e

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// update rewrites what scripts compare with, to be read as a diff.
var update = flag.Bool("update", false, "rewrite the expectations of scripts")

// programs are the binaries that scripts use, built once.
type programs struct {
	dir string
}

func TestScripts(t *testing.T) {
	built, archives := build(t), &zipper{squeezed: map[[sha256.Size]byte][]byte{}}
	for _, sandbox := range []string{"linux", "process"} {
		t.Run(sandbox, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir:                 "testdata",
				RequireExplicitExec: true,
				UpdateScripts:       *update,
				Setup: func(env *testscript.Env) error {
					env.Setenv("PATH", built.dir+string(os.PathListSeparator)+env.Getenv("PATH"))
					env.Setenv("BIN", built.dir)
					env.Setenv("SANDBOX", sandbox)
					env.Setenv("LATEST", "$LATEST") // scripts expand variables
					env.Setenv("ROLE", "arn:aws:iam::123456789012:role/test")
					return nil
				},
				Condition: func(cond string) (bool, error) {
					switch cond {
					case "sandbox:linux", "sandbox:process":
						return cond == "sandbox:"+sandbox, nil
					}
					return false, fmt.Errorf("unknown condition %s", cond)
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"aws": cmdAWS, "zip": archives.zip, "up": cmdUp, "logtail": cmdLogTail, "await": cmdAwait, "records": cmdRecords,
				},
			})
		})
	}
}

// build compiles firn and the programs that act as functions and extensions.
func build(t *testing.T) programs {
	t.Helper()
	dir := t.TempDir()
	for out, pkg := range map[string]string{
		"firn": "../cmd/firn", "firn-init": "../cmd/firn-init", "actor": "../internal/servertest/actor", "lambdago": "../internal/servertest/lambdago",
		"hello": "../examples/hello", "logger": "../examples/logger", "telemetry": "../examples/telemetry", "subscriber": "../internal/servertest/subscriber",
	} {
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, out), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", pkg, err, msg)
		}
	}
	return programs{dir}
}

// cmdUp is `up [FLAGS]`: it waits until the firn that `exec firn up ... &`
// started in the directory data serves, and writes firn.env.
func cmdUp(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		cmd := exec.Command(filepath.Join(ts.Getenv("BIN"), "firn"), "env", "--data", ts.MkAbs("data"))
		out, err := cmd.Output()
		if err == nil {
			ts.Check(os.WriteFile(ts.MkAbs("firn.env"), out, 0o600))
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("firn did not come up: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // archtest:sleep polls another process, which has no event to wait for
	}
}

// cmdAwait is `await FILE TEXT [N]`: it waits until the file holds the text, N
// times if that is given.
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	want := 1
	switch len(args) {
	case 2:
	case 3:
		var err error
		want, err = strconv.Atoi(args[2])
		ts.Check(err)
	default:
		ts.Fatalf("usage: await FILE TEXT [N]")
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		raw, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && strings.Count(string(raw), args[1]) >= want {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not hold %q %d times:\n%s", args[0], args[1], want, raw)
		}
		time.Sleep(20 * time.Millisecond) // archtest:sleep polls another process's output
	}
}

// zipper makes archives for the scripts. Each content is squeezed once: that
// of a whole program takes seconds under the race detector.
type zipper struct {
	mu       sync.Mutex
	squeezed map[[sha256.Size]byte][]byte
}

// zip is `zip OUT NAME=FILE ...`: FILE is looked for in the script's
// directory, then among the built programs. Everything is executable.
func (z *zipper) zip(ts *testscript.TestScript, _ bool, args []string) {
	file, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer file.Close()
	w := zip.NewWriter(file)
	for _, arg := range args[1:] {
		name, from, _ := strings.Cut(arg, "=")
		content, err := os.ReadFile(ts.MkAbs(from))
		if err != nil {
			content, err = os.ReadFile(filepath.Join(ts.Getenv("BIN"), from))
		}
		ts.Check(err)
		packed, err := z.squeeze(content)
		ts.Check(err)
		header := &zip.FileHeader{
			Name: name, Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(content),
			CompressedSize64: uint64(len(packed)), UncompressedSize64: uint64(len(content)),
		}
		header.SetMode(0o755)
		entry, err := w.CreateRaw(header)
		ts.Check(err)
		_, err = entry.Write(packed)
		ts.Check(err)
	}
	ts.Check(w.Close())
}

func (z *zipper) squeeze(content []byte) ([]byte, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	key := sha256.Sum256(content)
	if packed, ok := z.squeezed[key]; ok {
		return packed, nil
	}
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	z.squeezed[key] = out.Bytes()
	return out.Bytes(), nil
}

// cmdLogTail prints the decoded LogResult of the last `aws lambda invoke`.
func cmdLogTail(ts *testscript.TestScript, _ bool, args []string) {
	var out struct{ LogResult string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &out))
	raw, err := base64.StdEncoding.DecodeString(out.LogResult)
	ts.Check(err)
	fmt.Fprint(ts.Stdout(), string(raw))
}
