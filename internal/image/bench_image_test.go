package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/image/oci"
)

// bench is an image store with a blob store of its own.
type imageRig struct {
	*Store
	blobs *blob.Store
	dir   string
}

func newImageRig(t testing.TB) *imageRig {
	t.Helper()
	dir := t.TempDir()
	return openImageRig(t, dir)
}

func openImageRig(t testing.TB, dir string) *imageRig {
	t.Helper()
	blobs, err := blob.Open(filepath.Join(dir, "oci"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{Dir: filepath.Join(dir, "roots"), Blobs: blobs, Images: oci.New(oci.Config{Blobs: blobs}), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &imageRig{s, blobs, dir}
}

// put stores a blob.
func (r *imageRig) put(t testing.TB, data io.Reader) (firn.Digest, int64) {
	t.Helper()
	d, n, err := r.blobs.Put(context.Background(), data, -1)
	if err != nil {
		t.Fatal(err)
	}
	return d, n
}

// layerSpec is a layer to be put: how it is compressed, and its archive.
type layerSpec struct {
	compression string // "", "gzip", "zstd"
	tar         []byte
}

// image stores an image and returns the digest of its manifest.
func (r *imageRig) image(t testing.TB, layers ...layerSpec) firn.Digest {
	t.Helper()
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	config := v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}}
	for _, l := range layers {
		sum := sha256.Sum256(l.tar)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])})
		d, n := r.put(t, bytes.NewReader(compress(t, l)))
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: types.OCILayer, Digest: v1.Hash{Algorithm: "sha256", Hex: string(d)}, Size: n})
	}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	d, n := r.put(t, bytes.NewReader(data))
	m.Config = v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: v1.Hash{Algorithm: "sha256", Hex: string(d)}, Size: n}
	if data, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	d, _ = r.put(t, bytes.NewReader(data))
	return oci.Prefixed(d)
}

func compress(t testing.TB, l layerSpec) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch l.compression {
	case "":
		return l.tar
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		w, _ = zstd.NewWriter(&out)
	}
	if _, err := w.Write(l.tar); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// largeLayer is the archive of a layer of files like those of a language's
// packages: 30 kB on average, which compress to a third.
func largeLayer(t testing.TB, n int, size int64) []byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	words := make([][]byte, 4096)
	for i := range words {
		words[i] = fmt.Appendf(nil, "%x ", rng.Uint64()>>rng.IntN(50))
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; int64(out.Len()) < size; i++ {
		if i%40 == 0 {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("usr/lib/packages%d/p%d/", n, i/40), Mode: 0o755}); err != nil {
				t.Fatal(err)
			}
		}
		content := make([]byte, 0, 64<<10)
		for want := rng.IntN(60 << 10); len(content) < want; {
			content = append(content, words[rng.IntN(len(words))]...)
		}
		h := &tar.Header{Name: fmt.Sprintf("usr/lib/packages%d/p%d/module%d.py", n, i/40, i), Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1700000000, 0)}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// BenchmarkRoot unpacks an image of 512 MB in four layers: cold, with three of
// the layers there already, and used before.
func BenchmarkRoot(b *testing.B) {
	const size = 128 << 20
	for _, compression := range []string{"", "gzip", "zstd"} {
		name := compression
		if name == "" {
			name = "plain"
		}
		var layers []layerSpec
		for n := range 5 {
			layers = append(layers, layerSpec{compression, largeLayer(b, n, size)})
		}
		b.Run(name+"/cold", func(b *testing.B) {
			b.SetBytes(4 * size)
			for b.Loop() {
				b.StopTimer()
				r := newImageRig(b)
				d := r.image(b, layers[:4]...)
				b.StartTimer()
				if _, err := r.Root(b.Context(), d); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/one-layer", func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				b.StopTimer()
				r := newImageRig(b)
				d := r.image(b, layers[0])
				b.StartTimer()
				if _, err := r.Root(b.Context(), d); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/one-new-layer", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				r := newImageRig(b)
				if _, err := r.Root(b.Context(), r.image(b, layers[:4]...)); err != nil {
					b.Fatal(err)
				}
				d := r.image(b, layers[0], layers[1], layers[2], layers[4])
				b.StartTimer()
				if _, err := r.Root(b.Context(), d); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/again", func(b *testing.B) {
			r := newImageRig(b)
			d := r.image(b, layers[:2]...)
			for b.Loop() {
				if _, err := r.Root(b.Context(), d); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/restart", func(b *testing.B) {
			r := newImageRig(b)
			d := r.image(b, layers[:4]...)
			if _, err := r.Root(b.Context(), d); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				b.StopTimer()
				again := openImageRig(b, r.dir)
				b.StartTimer()
				if _, err := again.Root(b.Context(), d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
