package registry

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// killDir makes the test binary serve a registry in that directory until it is
// killed.
const killDir = "FIRN_REGISTRY_KILL_DIR"

// TestServeUntilKilled is not a test but the process that TestKilled kills.
func TestServeUntilKilled(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		return // nobody is to kill this one
	}
	rg := newRig(t, options{dir: dir, open: true})
	fmt.Println("serving " + rg.host)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone
}

// What was acknowledged survives kill -9 in the middle of an upload, and the
// upload leaves nothing.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		killed(t, dir, round)
	}
	rg := newRig(t, options{dir: dir, open: true})
	left, err := filepath.Glob(filepath.Join(dir, "data", "oci", "tmp", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for round := range 3 {
		img, err := remote.Image(rg.ref(fmt.Sprintf("app%d:v1", round)))
		if err == nil {
			err = validate.Image(img)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// killed pushes an image, begins an upload, and kills the registry.
func killed(t *testing.T, dir string, round int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.run=^TestServeUntilKilled$", "-test.v")
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // it was killed
	defer func() { _ = cmd.Process.Kill() }()
	host := ""
	for lines := bufio.NewScanner(out); host == "" && lines.Scan(); {
		_, host, _ = strings.Cut(lines.Text(), "serving ")
	}
	if host == "" {
		t.Fatal("the registry did not come up")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process

	name := fmt.Sprintf("app%d", round)
	rg := &rig{t: t, host: host, url: "http://" + host, Registry: &Registry{}}
	makeRepository(t, rg.url, name)
	if err := remote.Write(rg.ref(name+":v1"), randomImage(t, 2)); err != nil {
		t.Fatal(err)
	}
	at := expect(t, rg.do("POST", "/v2/"+name+"/blobs/uploads/", nil), http.StatusAccepted).Header.Get("Location")
	body, feed := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, rg.url+at, body)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
		}
	}()
	if _, err := feed.Write(bytes.Repeat([]byte("x"), 4<<20)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = feed.Close()
	<-sent
}

// makeRepository does without an SDK client: the registry is open.
func makeRepository(t *testing.T, url, name string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"repositoryName":"`+name+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.CreateRepository")
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	expect(t, res, http.StatusOK)
}
