package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
)

func newStore(t testing.TB) *Store {
	t.Helper()
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Blobs: blobs})
	s.backoff = time.Millisecond
	return s
}

// hostImage is a random image for a platform, by default this machine's.
func hostImage(t testing.TB, layers int, arch string) v1.Image {
	t.Helper()
	img, err := random.Image(100<<10, int64(layers))
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	if cf.OS, cf.Architecture = "linux", arch; arch == "" {
		_, cf.Architecture, _ = strings.Cut(HostPlatform(), "/")
	}
	cf.Config = v1.Config{Entrypoint: []string{"/entry"}, Cmd: []string{"a", "b"}, Env: []string{"K=V"}, WorkingDir: "/work", User: "nobody"}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

// otherArch is not this machine's.
func otherArch() string {
	if HostPlatform() == "linux/arm64" {
		return "amd64"
	}
	return "arm64"
}

// both is an index of images for two architectures, with what BuildKit adds.
func both(t testing.TB, mine v1.Image) v1.ImageIndex {
	t.Helper()
	_, arch, _ := strings.Cut(HostPlatform(), "/")
	platform := func(os, arch string) v1.Descriptor {
		return v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch}}
	}
	return mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: hostImage(t, 1, otherArch()), Descriptor: platform("linux", otherArch())},
		mutate.IndexAddendum{Add: hostImage(t, 1, ""), Descriptor: platform("unknown", "unknown")},
		mutate.IndexAddendum{Add: mine, Descriptor: platform("linux", arch)})
}

// check compares a stored image with the one that it is to be.
func check(t testing.TB, s *Store, got *Image, want v1.Image) {
	t.Helper()
	digest, err := want.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Digest) != digest.String() {
		t.Errorf("digest %s, want %s", got.Digest, digest)
	}
	checkContent(t, s, got, want)
}

// checkContent is check without the manifest, which may be another.
func checkContent(t testing.TB, s *Store, got *Image, want v1.Image) {
	t.Helper()
	cf, err := want.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := cf.Config
	if diff := cmp.Diff(Settings{Entrypoint: c.Entrypoint, Command: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User}, got.Settings); diff != "" {
		t.Error(diff)
	}
	if len(got.Layers) != len(cf.RootFS.DiffIDs) {
		t.Fatalf("%d layers, want %d", len(got.Layers), len(cf.RootFS.DiffIDs))
	}
	for i, l := range got.Layers {
		if string(l.DiffID) != cf.RootFS.DiffIDs[i].Hex {
			t.Errorf("layer %d: %s", i, l.DiffID)
		}
		if err := s.Blobs().Verify(t.Context(), l.Digest); err != nil {
			t.Error(err)
		}
	}
	again, err := s.Image(got.Digest, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(again, got); diff != "" {
		t.Errorf("read again: %s", diff)
	}
}

// server is a registry that can be made to fail.
func server(t testing.TB, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func reference(t testing.TB, s string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestPull(t *testing.T) {
	var gets atomic.Int64
	host := server(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet {
				gets.Add(1)
			}
			h.ServeHTTP(w, r)
		})
	})
	img := hostImage(t, 6, "")
	if err := remote.Write(reference(t, host+"/app:v1"), img); err != nil {
		t.Fatal(err)
	}
	index := both(t, img)
	if err := remote.WriteIndex(reference(t, host+"/app:multi"), index); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	resolved, err := s.Resolve(t.Context(), host+"/app:multi", PullOptions{})
	if err != nil || string(resolved.Digest) != digest.String() {
		t.Fatalf("%+v, %v", resolved, err)
	}
	if _, err := s.Image(resolved.Digest, ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("resolving brought the image: %v", err)
	}
	var last Progress
	got, err := s.Pull(t.Context(), host+"/app:v1", PullOptions{Progress: func(p Progress) { last = p }})
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, got, img)
	if last.Done != last.Total || last.Total < 600<<10 || last.Layers != 6 || last.Reused != 0 {
		t.Errorf("progress %+v", last)
	}
	for _, ref := range []string{host + "/app:v1", host + "/app:multi", host + "/app@" + digest.String()} {
		before := gets.Load()
		got, err := s.Pull(t.Context(), ref, PullOptions{Progress: func(p Progress) { last = p }})
		if err != nil {
			t.Fatal(err)
		}
		check(t, s, got, img)
		if n := gets.Load() - before; n != 0 || last.Reused != last.Total {
			t.Errorf("%s: %d parts fetched again, progress %+v", ref, n, last)
		}
	}
	parts, err := s.Parts(got.Digest)
	if err != nil || len(parts) != 8 {
		t.Errorf("%d parts, %v", len(parts), err)
	}
}

func TestPullRefused(t *testing.T) {
	host := server(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v2/secret/") {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	if err := remote.Write(reference(t, host+"/other:v1"), hostImage(t, 1, otherArch())); err != nil {
		t.Fatal(err)
	}
	only := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: hostImage(t, 1, otherArch()), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: otherArch()}}})
	if err := remote.WriteIndex(reference(t, host+"/other:index"), only); err != nil {
		t.Fatal(err)
	}
	chart := mutate.ConfigMediaType(hostImage(t, 1, ""), "application/vnd.cncf.helm.config.v1+json")
	if err := remote.Write(reference(t, host+"/chart:v1"), chart); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	for ref, want := range map[string]error{
		host + "/absent:v1": ErrNotFound, host + "/other:absent": ErrNotFound, host + "/secret/app:v1": ErrDenied,
		host + "/chart:v1": ErrUnsupported, "no reference!": ErrReference,
	} {
		if _, err := s.Pull(t.Context(), ref, PullOptions{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", ref, err, want)
		}
	}
	for _, ref := range []string{host + "/other:v1", host + "/other:index"} {
		_, err := s.Pull(t.Context(), ref, PullOptions{})
		var platform *PlatformError
		if !errors.As(err, &platform) || platform.Have[0] != "linux/"+otherArch() {
			t.Errorf("%s: %v", ref, err)
		}
		if f := Fault("uri", err); firn.KindOf(f) != firn.InvalidParameterValue || !strings.Contains(f.Error(), "The image manifest, config or layer media type for the source image uri is not supported.") {
			t.Errorf("%v", f)
		}
		if _, err := s.Pull(t.Context(), ref, PullOptions{Platform: "linux/" + otherArch()}); err != nil {
			t.Error(err)
		}
	}
}

// Transfers that break off are begun again, lies are not believed, and a pull
// that failed goes on with what it has.
func TestPullBroken(t *testing.T) {
	img := hostImage(t, 3, "")
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	target, err := layers[1].Digest()
	if err != nil {
		t.Fatal(err)
	}
	var fault atomic.Value // func(w, r, next)
	type faultFunc func(w http.ResponseWriter, r *http.Request, next http.Handler)
	fault.Store(faultFunc(func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }))
	var fetched atomic.Int64
	host := server(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				fetched.Add(1)
				if strings.HasSuffix(r.URL.Path, target.String()) {
					fault.Load().(faultFunc)(w, r, h)
					return
				}
			}
			h.ServeHTTP(w, r)
		})
	})
	if err := remote.Write(reference(t, host+"/app:v1"), img); err != nil {
		t.Fatal(err)
	}
	var times atomic.Int64
	s := newStore(t)
	// Half of it, twice, then all.
	fault.Store(faultFunc(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if times.Add(1) > 2 {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		w.Header().Set("Content-Length", rec.Header().Get("Content-Length"))
		_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
		panic(http.ErrAbortHandler)
	}))
	got, err := s.Pull(t.Context(), host+"/app:v1", PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, got, img)
	if times.Load() != 3 {
		t.Errorf("%d attempts", times.Load())
	}

	// Other bytes of the same number.
	s = newStore(t)
	fault.Store(faultFunc(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		body[len(body)/2] ^= 1
		_, _ = w.Write(body)
	}))
	if _, err := s.Pull(t.Context(), host+"/app:v1", PullOptions{}); err == nil {
		t.Fatal("a forged layer was accepted")
	}
	if _, err := s.Blobs().Stat(firn.Digest(target.Hex)); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("the forged layer is stored: %v", err)
	}
	// Now it works, and fetches the one layer that is missing.
	fault.Store(faultFunc(func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }))
	fetched.Store(0)
	if got, err = s.Pull(t.Context(), host+"/app:v1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	check(t, s, got, img)
	if fetched.Load() != 1 {
		t.Errorf("%d parts were fetched, want 1", fetched.Load())
	}
}

func TestImportLayout(t *testing.T) {
	img := hostImage(t, 3, "")
	dir := t.TempDir()
	p, err := layout.Write(dir, both(t, img))
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	got, err := s.Import(t.Context(), dir, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, got, img)
	if got, err = s.Import(t.Context(), dir, ImportOptions{Platform: "linux/" + otherArch()}); err != nil || got.Platform != "linux/"+otherArch() {
		t.Errorf("%+v, %v", got, err)
	}
	// The same in a tarball, also compressed.
	ball := filepath.Join(t.TempDir(), "layout.tar")
	writeTar(t, ball, dir)
	for _, file := range []string{ball, zip(t, ball)} {
		s := newStore(t)
		got, err := s.Import(t.Context(), file, ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		check(t, s, got, img)
	}
	// Images with names.
	named, err := layout.Write(t.TempDir(), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	other := hostImage(t, 1, "")
	for name, img := range map[string]v1.Image{"one": img, "two": other} {
		if err := named.AppendImage(img, layout.WithAnnotations(map[string]string{refAnnotation: name})); err != nil {
			t.Fatal(err)
		}
	}
	if got, err = s.Import(t.Context(), string(named), ImportOptions{Reference: "two"}); err != nil {
		t.Fatal(err)
	}
	check(t, s, got, other)
	if _, err := s.Import(t.Context(), string(named), ImportOptions{Reference: "three"}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := s.Import(t.Context(), string(named), ImportOptions{}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	// A file that is not what its name says.
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	forged := filepath.Join(string(p), "blobs", "sha256", manifest.Layers[0].Digest.Hex)
	if err := os.WriteFile(forged, []byte("forged"), 0o644); err != nil {
		t.Fatal(err)
	}
	s = newStore(t)
	if _, err := s.Import(t.Context(), dir, ImportOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a forged layer: %v", err)
	}
	if _, err := s.Image(firn.Digest(digest.String()), ""); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := os.Remove(forged); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), dir, ImportOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a missing layer: %v", err)
	}
}

// writeTar packs a directory.
func writeTar(t testing.TB, file, dir string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// zip compresses a file beside it.
func zip(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), os.WriteFile(file+".gz", out.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	return file + ".gz"
}

func TestImportSaved(t *testing.T) {
	img := hostImage(t, 3, "")
	ball := filepath.Join(t.TempDir(), "saved.tar")
	if err := tarball.WriteToFile(ball, reference(t, "firn.test/app:v1"), img); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{ball, zip(t, ball)} {
		s := newStore(t)
		for _, o := range []ImportOptions{{}, {Reference: "firn.test/app:v1"}} {
			got, err := s.Import(t.Context(), file, o)
			if err != nil {
				t.Fatal(err)
			}
			checkContent(t, s, got, img)
		}
		if _, err := s.Import(t.Context(), file, ImportOptions{Reference: "other"}); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	// As older Dockers save: a directory for each layer, plain archives, links
	// for layers that come twice.
	layer := []byte(strings.Repeat("\x00", 1024)) // an empty archive
	config := `{"os":"linux","architecture":"` + strings.TrimPrefix(HostPlatform(), "linux/") + `","rootfs":{"type":"layers","diff_ids":["` +
		digest(layer) + `","` + digest(layer) + `"]},"config":{"Cmd":["x"]}}`
	old := filepath.Join(t.TempDir(), "old.tar")
	f, err := os.Create(old)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	add := func(h tar.Header, body string) {
		t.Helper()
		h.Size, h.Mode = int64(len(body)), 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "bbb/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../aaa/layer.tar"}, "")
	add(tar.Header{Name: "aaa/layer.tar"}, string(layer))
	add(tar.Header{Name: "ccc.json"}, config)
	add(tar.Header{Name: "manifest.json"}, `[{"Config":"ccc.json","RepoTags":null,"Layers":["aaa/layer.tar","bbb/layer.tar"]}]`)
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	got, err := s.Import(t.Context(), old, ImportOptions{})
	if err != nil || len(got.Layers) != 2 || got.Settings.Command[0] != "x" {
		t.Errorf("%+v, %v", got, err)
	}
}

func digest(data []byte) string {
	h, _, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		panic(err) // of a reader of memory
	}
	return h.String()
}

func TestImportRefused(t *testing.T) {
	s := newStore(t)
	write := func(name, body string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "index.json")); err != nil {
		t.Fatal(err)
	}
	for what, file := range map[string]string{
		"no tarball": write("a", strings.Repeat("not a tarball ", 100)), "nothing": write("b", ""), "not gzip": write("c", "\x1f\x8b"),
		"an empty directory": t.TempDir(), "a link out": dir, "absent": filepath.Join(dir, "absent"),
	} {
		if _, err := s.Import(t.Context(), file, ImportOptions{}); err == nil {
			t.Errorf("%s: not refused", what)
		}
	}
}

// What a manifest may not say.
func TestManifests(t *testing.T) {
	s := newStore(t)
	put := func(v any) firn.Digest {
		t.Helper()
		data, ok := v.(string)
		if !ok {
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			data = string(raw)
		}
		d, _, err := s.Blobs().Put(t.Context(), strings.NewReader(data), -1)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	part := func(d firn.Digest, size int64, t types.MediaType) v1.Descriptor {
		return v1.Descriptor{MediaType: t, Size: size, Digest: v1.Hash{Algorithm: "sha256", Hex: string(d)}}
	}
	_, arch, _ := strings.Cut(HostPlatform(), "/")
	layer := put("layer")
	config := func(diffs ...v1.Hash) v1.Descriptor {
		return part(put(v1.ConfigFile{OS: "linux", Architecture: arch, RootFS: v1.RootFS{DiffIDs: diffs}}), 1, types.OCIConfigJSON)
	}
	diff := v1.Hash{Algorithm: "sha256", Hex: string(layer)}
	good := v1.Manifest{MediaType: types.OCIManifestSchema1, Config: config(diff), Layers: []v1.Descriptor{part(layer, 5, types.OCILayer)}}
	if _, err := s.Image(put(good), ""); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(*v1.Manifest)
		want   error
	}{
		"a layer too many":     {func(m *v1.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }, ErrInvalid},
		"another size":         {func(m *v1.Manifest) { m.Layers[0].Size = 6 }, ErrInvalid},
		"a negative size":      {func(m *v1.Manifest) { m.Layers[0].Size = -1 }, ErrInvalid},
		"another algorithm":    {func(m *v1.Manifest) { m.Layers[0].Digest.Algorithm = "md5" }, ErrInvalid},
		"a path for a digest":  {func(m *v1.Manifest) { m.Config.Digest.Hex = "../../etc/passwd" }, ErrInvalid},
		"a bad diff id":        {func(m *v1.Manifest) { m.Config = config(v1.Hash{Algorithm: "sha256", Hex: "00"}) }, ErrInvalid},
		"no layer":             {func(m *v1.Manifest) { m.Layers[0].Digest.Hex = strings.Repeat("0", 64) }, ErrNotFound},
		"no configuration":     {func(m *v1.Manifest) { m.Config.Digest.Hex = strings.Repeat("0", 64) }, ErrNotFound},
		"a layer of elsewhere": {func(m *v1.Manifest) { m.Layers[0].MediaType = types.DockerForeignLayer }, ErrUnsupported},
		"another manifest":     {func(m *v1.Manifest) { m.MediaType = types.DockerManifestSchema1 }, ErrUnsupported},
		"another config":       {func(m *v1.Manifest) { m.Config.MediaType = "application/x" }, ErrUnsupported},
		"too many layers":      {func(m *v1.Manifest) { m.Layers = make([]v1.Descriptor, maxLayers+1) }, ErrInvalid},
	} {
		m := *good.DeepCopy()
		c.change(&m)
		if _, err := s.Image(put(m), ""); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	for what, raw := range map[string]string{"no JSON": "{", "nothing": "{}", "too large": `{"x":"` + strings.Repeat("x", MaxManifestBytes) + `"}`} {
		if _, err := s.Image(put(raw), ""); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Indexes within indexes end somewhere.
	nested := put(good)
	for range maxIndexDepth + 1 {
		raw, err := json.Marshal(v1.IndexManifest{MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{part(nested, 1, types.OCIImageIndex)}})
		if err != nil {
			t.Fatal(err)
		}
		nested = put(string(raw))
	}
	if _, err := s.Image(nested, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("nested: %v", err)
	}
	if _, err := s.Parts(nested); err != nil {
		t.Errorf("parts of nested: %v", err)
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add([]byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"sha256:` + strings.Repeat("0", 64) + `"},"layers":[{}],"subject":{"digest":"x"}}`))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:` + strings.Repeat("0", 64) + `","platform":{"os":"linux"}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Describe(raw)
		if err != nil {
			return
		}
		for _, p := range m.Parts {
			if blob.Check(p.Digest) != nil || p.Size < 0 {
				t.Errorf("part %+v", p)
			}
		}
	})
}
