package image

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
)

// victimVariable makes the test binary a process that unpacks until it is killed.
const victimVariable = "FIRN_IMAGE_TEST_VICTIM"

func TestMain(m *testing.M) {
	if args := os.Getenv(victimVariable); args != "" {
		os.Exit(victim(strings.Split(args, "\n")))
	}
	os.Exit(m.Run())
}

func victim(args []string) int {
	s, err := Open(Config{Dir: args[0], Blobs: &blobDir{dir: args[1]}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("unpacking")
	if _, err := s.Function(context.Background(), firn.Digest(args[2])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// kill -9 at any moment leaves either nothing or a whole directory.
func TestKilledWhileUnpacking(t *testing.T) {
	blobs := &blobDir{dir: t.TempDir()}
	var items []item
	for i := range 3000 {
		items = append(items, item{name: fmt.Sprintf("dir-%d/file-%d", i%50, i), body: strings.Repeat("content ", 500)})
	}
	d := blobs.put(t, makeZip(t, items...))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "images")
	midway := 0
	for _, delay := range []time.Duration{0, 2, 5, 10, 20, 40, 80} {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), victimVariable+"="+strings.Join([]string{dir, blobs.dir, string(d)}, "\n"))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		<-time.After(delay * time.Millisecond)
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if left, _ := filepath.Glob(filepath.Join(dir, tmpPrefix+"*")); len(left) > 0 {
			midway++
		}
		s := openStore(t, dir, blobs)
		if left, _ := filepath.Glob(filepath.Join(dir, tmpPrefix+"*")); len(left) > 0 {
			t.Errorf("after %v: Open left %v", delay, left)
		}
		root, err := s.Function(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := s.count(zipPrefix + string(d) + "/" + rootName); err != nil || m.Files != len(items) || m.Bytes != int64(len(items)*4000) {
			t.Errorf("after %v: %s holds %+v, %v", delay, root, m, err)
		}
		if n, err := s.Sweep(t.Context(), Live{}); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := s.Sweep(t.Context(), Live{}); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if midway == 0 {
		t.Error("no kill came while files were being written: the test proves nothing")
	}
}
