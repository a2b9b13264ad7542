package runtimes

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image/oci"
)

// mirror is a registry in this process that counts the layers that are fetched.
type mirror struct {
	t     *testing.T
	host  string
	blobs atomic.Int32
	down  atomic.Bool
}

func newMirror(t *testing.T) *mirror {
	m := &mirror{t: t}
	serve := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.down.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			m.blobs.Add(1)
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	m.host = strings.TrimPrefix(srv.URL, "http://")
	return m
}

// push stores an image and returns its reference.
func (m *mirror) push(repository string, img v1.Image) string {
	m.t.Helper()
	ref, err := name.ParseReference(m.host + "/" + repository)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return ref.String()
}

// system is the lowest layer of all base images here.
const system = "etc/os-release=Amazon Linux|usr/lib/libc.so.6=#!libc"

// base is an image of layers, each "path=content|path=content"; a content that
// begins with #! can be executed.
func base(t *testing.T, layers ...string) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range layers {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		for entry := range strings.SplitSeq(content, "|") {
			path, text, _ := strings.Cut(entry, "=")
			mode := int64(0o644)
			if strings.HasPrefix(text, "#!") {
				mode = 0o755
			}
			if err := errors.Join(w.WriteHeader(&tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(text))}), writeText(w, text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
		if err == nil {
			img, err = mutate.AppendLayers(img, layer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func writeText(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

func digestOf(t *testing.T, img v1.Image) string {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// wantWhole checks that name is the root of an image.
func wantWhole(t *testing.T, s *Store, name string, img v1.Image) string {
	t.Helper()
	dir, whole, err := s.Runtime(t.Context(), name)
	if err != nil || !whole {
		t.Fatalf("%s: %s %v %v", name, dir, whole, err)
	}
	if digest, err := s.Version(t.Context(), name); err != nil || "sha256:"+string(digest) != digestOf(t, img) {
		t.Errorf("%s: digest %s %v, want %s", name, digest, err, digestOf(t, img))
	}
	return dir
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	one, err := os.Stat(a)
	two, other := os.Stat(b)
	if err = errors.Join(err, other); err != nil {
		t.Fatal(err)
	}
	return os.SameFile(one, two)
}

// left are the files below a part of the store's images.
func left(t *testing.T, s *Store, part string) (names []string) {
	t.Helper()
	dir := filepath.Join(s.dir, "images", part)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Runtimes come by their name from a mirror, share what they have in common,
// replace each other, and leave nothing behind.
func TestPull(t *testing.T) {
	s, m := openStore(t, t.TempDir()), newMirror(t)
	python := base(t, system, "var/runtime/bootstrap=#!/python|var/lang/bin/python3.13=#!x")
	node := base(t, system, "var/runtime/bootstrap=#!/node")
	ref := m.push("mirror/lambda/python:3.13", python)
	m.push("mirror/lambda/nodejs:22", node)
	opt := PullOptions{Registry: m.host + "/mirror/lambda/"}
	put(t, s, "python3.13", "built before")

	var told []Progress
	opt.Progress = func(p Progress) { told = append(told, p) }
	got, err := s.Pull(t.Context(), "python3.13", opt)
	if err != nil {
		t.Fatal(err)
	}
	if got.Origin != Pulled || got.Source != ref || !got.Whole || got.Files != 4 || got.Bytes == 0 || len(trees(t, s)) != 1 {
		t.Errorf("%+v, trees %v", got, trees(t, s))
	}
	if first, last := told[0], told[len(told)-1]; first.Step != 1 || !strings.Contains(first.Text, ref) || last.Step != last.Steps ||
		!strings.Contains(last.Text, "installing") {
		t.Errorf("%+v", told)
	}
	if n := len(told); n < 4 || told[n-3].Done == 0 || told[n-3].Done != told[n-3].Total || told[n-3].Layers != 2 {
		t.Errorf("%+v", told)
	}
	fetched := m.blobs.Load()
	if _, err := s.Pull(t.Context(), "nodejs22.x", opt); err != nil {
		t.Fatal(err)
	}
	if n := m.blobs.Load() - fetched; n != 2 { // configuration and one layer
		t.Errorf("%d parts were fetched for the second", n)
	}
	one, two := wantWhole(t, s, "python3.13", python), wantWhole(t, s, "nodejs22.x", node)
	if !sameFile(t, filepath.Join(one, "usr/lib/libc.so.6"), filepath.Join(two, "usr/lib/libc.so.6")) {
		t.Error("the common layer is there twice")
	}
	if list, err := s.List(); err != nil || len(list) != 2 || list[0] != got {
		t.Error(list, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"python3.13", "nodejs22.x"} {
		if err := s.Remove(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if a, b := left(t, s, "parts"), left(t, s, "roots"); len(a)+len(b)+len(trees(t, s)) > 0 {
		t.Errorf("left over: %v %v %v", a, b, trees(t, s))
	}
}

func TestPullByDigest(t *testing.T) {
	s, m := openStore(t, t.TempDir()), newMirror(t)
	first := base(t, "var/runtime/bootstrap=#!/1") // of one layer
	m.push("own:latest", first)
	m.push("own:latest", base(t, system, "var/runtime/bootstrap=#!/2"))
	ref := m.host + "/own@" + digestOf(t, first)
	if _, err := s.Pull(t.Context(), "ruby3.4", PullOptions{Image: ref}); err != nil {
		t.Fatal(err)
	}
	dir := wantWhole(t, s, "ruby3.4", first)
	if text, err := os.ReadFile(filepath.Join(dir, "var/runtime/bootstrap")); err != nil || string(text) != "#!/1" {
		t.Errorf("%q %v", text, err)
	}
	// It has no other name, so the newest takes its place; who runs the
	// former keeps it.
	if _, err := s.Pull(t.Context(), "ruby3.4", PullOptions{Image: m.host + "/own:latest"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "var/runtime/bootstrap")); err != nil {
		t.Error("the tree in use has gone:", err)
	}
	// A build takes the place of a pull.
	root := filepath.Join(s.dir, "images", "roots")
	before, _ := s.manifest("ruby3.4")
	put(t, s, "ruby3.4", "built")
	if err := s.forget(t.Context(), before.Digest); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 || len(left(t, s, "parts")) > 0 {
		t.Errorf("left over: %v %v %v", entries, left(t, s, "parts"), err)
	}
}

func TestPullFromFile(t *testing.T) {
	img := base(t, system, "var/runtime/bootstrap=#!/dotnet")
	saved := filepath.Join(t.TempDir(), "saved.tar")
	tag, err := name.NewTag("dotnet:8")
	if err == nil {
		err = tarball.WriteToFile(saved, tag, img)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	path, other := layout.Write(dir, empty.Index)
	if err = errors.Join(err, other); err == nil {
		err = path.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{saved, dir} {
		s := openStore(t, t.TempDir())
		m, err := s.Pull(t.Context(), "dotnet8", PullOptions{From: from})
		if err != nil || m.Origin != Imported || m.Source != from {
			t.Fatalf("%+v %v", m, err)
		}
		root, whole, err := s.Runtime(t.Context(), "dotnet8")
		if text, read := os.ReadFile(filepath.Join(root, "etc/os-release")); !whole || err != nil || string(text) != "Amazon Linux" {
			t.Error(whole, err, read)
		}
	}
}

func TestPullRefused(t *testing.T) {
	s, m := openStore(t, t.TempDir()), newMirror(t)
	plain := m.push("plain:1", base(t, system))
	data := m.push("data:1", base(t, "var/runtime/bootstrap=text"))
	for _, test := range []struct {
		name string
		opt  PullOptions
		says string
	}{
		{"python9", PullOptions{}, "no such runtime"},
		{"provided.al2023", PullOptions{}, "bring their own"},
		{"python2.7", PullOptions{}, "no base image"},
		{"python3.13", PullOptions{Registry: "a", Image: "b"}, "one of the two"},
		{"python3.13", PullOptions{Registry: "a", From: "b"}, "not both"},
		{"python3.13", PullOptions{Image: plain}, "it has no /var/runtime/bootstrap"},
		{"python3.13", PullOptions{Image: data}, "cannot be executed"},
		{"python3.13", PullOptions{Registry: m.host}, "firn runtime build python3.13"},
		{"ruby3.4", PullOptions{Registry: m.host}, "fetch " + m.host + "/ruby:3.4: "},
		{"java21", PullOptions{From: "/no/such"}, "fetch /no/such: "},
	} {
		_, err := s.Pull(t.Context(), test.name, test.opt)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s %+v: %v", test.name, test.opt, err)
		}
	}
	_, err := s.Pull(t.Context(), "ruby3.4", PullOptions{Registry: m.host})
	fetch, ok := errors.AsType[*FetchError](err)
	if !ok || !errors.Is(err, oci.ErrNotFound) || fetch.Buildable || strings.Contains(err.Error(), "runtime build") ||
		!strings.Contains(err.Error(), "--registry") || !strings.Contains(err.Error(), "--from") {
		t.Errorf("%v", err)
	}
	if len(trees(t, s)) > 0 {
		t.Errorf("%v", trees(t, s))
	}
}

// One pull at a time, over all processes, and none that was given up.
func TestPullLocks(t *testing.T) {
	dir := t.TempDir()
	s, m := openStore(t, dir), newMirror(t)
	m.push("python:3.13", base(t, "var/runtime/bootstrap=#!/x"))
	held, err := openStore(t, dir).lock("images", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), "python3.13", PullOptions{Registry: m.host}); err == nil || !strings.Contains(err.Error(), "another pull") {
		t.Errorf("%v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Pull(ctx, "python3.13", PullOptions{Registry: m.host}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := s.Pull(t.Context(), "python3.13", PullOptions{Registry: m.host}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestBring(t *testing.T) {
	s, m := openStore(t, t.TempDir()), newMirror(t)
	m.push("ruby:3.4", base(t, "var/runtime/bootstrap=#!/x"))
	opt := PullOptions{Registry: m.host}
	for range 2 {
		if err := s.Bring(t.Context(), "ruby3.4", opt); err != nil {
			t.Fatal(err)
		}
		m.down.Store(true) // what is there is not asked for
	}
	if _, ok := errors.AsType[*FetchError](s.Bring(t.Context(), "dotnet8", opt)); !ok {
		t.Error("dotnet8 came from nowhere")
	}
	if _, ok := errors.AsType[*MissingError](s.Bring(t.Context(), "nothing", opt)); !ok {
		t.Error("nothing came")
	}
	t.Setenv("PATH", t.TempDir()) // no interpreter to build from
	t.Setenv("JAVA_HOME", "")
	err := s.Bring(t.Context(), "python3.13", opt)
	if _, ok := errors.AsType[*FetchError](err); !ok || !errors.Is(err, oci.ErrDenied) || !strings.Contains(err.Error(), "build runtime python3.13") {
		t.Errorf("both reasons: %v", err)
	}
}

func TestMissingUnbuildable(t *testing.T) {
	s := openStore(t, t.TempDir())
	if missing := s.Missing("ruby3.4"); missing.Command != "firn runtime pull ruby3.4 --data /data" {
		t.Error(missing)
	}
}

// A name is never given to what another image has left half done.
func TestPullAfterInterruption(t *testing.T) {
	s, m := openStore(t, t.TempDir()), newMirror(t)
	img := base(t, system, "var/runtime/bootstrap=#!/x")
	m.push("java:21", img)
	for _, stray := range []string{"work/java21/root/var/runtime/bootstrap", "images/roots/tmp-1/root/x", "images/parts/tmp/x"} {
		writeTree(t, s.dir, map[string]string{stray: "#!stray"})
	}
	got, err := s.Pull(t.Context(), "java21", PullOptions{Registry: m.host})
	if err != nil || got.Files != 3 || got.Digest != firn.Digest(strings.TrimPrefix(digestOf(t, img), "sha256:")) {
		t.Fatalf("%+v %v", got, err)
	}
	wantWhole(t, s, "java21", img)
	for _, stray := range []string{"work/java21", "images/roots/tmp-1", "images/parts/tmp/x"} {
		if _, err := os.Stat(filepath.Join(s.dir, stray)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", stray, err)
		}
	}
}
