package image

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
)

// item is an entry of a test archive.
type item struct {
	name string
	body string
	mode fs.FileMode // 0: 0644
	edit func(*zip.FileHeader)
}

func link(name, target string) item {
	return item{name: name, body: target, mode: fs.ModeSymlink | 0o777}
}

var testTime = time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC)

func makeZip(t testing.TB, items ...item) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, it := range items {
		h := &zip.FileHeader{Name: it.name, Method: zip.Deflate, Modified: testTime}
		if it.mode == 0 {
			it.mode = 0o644
		}
		h.SetMode(it.mode)
		if it.edit != nil {
			it.edit(h)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, it.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func inspect(data []byte) (Info, error) {
	return Inspect(context.Background(), bytes.NewReader(data), int64(len(data)))
}

func TestInspect(t *testing.T) {
	info, err := inspect(makeZip(t,
		item{name: "bootstrap", body: "#!/bin/sh\n", mode: 0o755},
		item{name: "lib/"},
		item{name: "lib/data.bin", body: strings.Repeat("x", 100_000)},
		link("lib/link", "data.bin"),
	))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Info{UnzippedBytes: 10 + 100_000 + 8, Files: 3}); info != want {
		t.Errorf("%+v, want %+v", info, want)
	}
}

func TestInspectRefuses(t *testing.T) {
	ok := item{name: "ok", body: "ok"}
	good := makeZip(t, ok)
	stored := makeZip(t, item{name: "x", body: "some content", edit: func(h *zip.FileHeader) { h.Method = zip.Store }})
	flip := bytes.Replace(stored, []byte("some content"), []byte("same content"), 1)
	special := func(mode fs.FileMode) []byte { return makeZip(t, item{name: "x", mode: mode | 0o644}) }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":                    {nil, msgEmpty},
		"no entries":                 {makeZip(t), msgEmpty},
		"not a zip":                  {[]byte(strings.Repeat("hello", 100)), msgNotZip},
		"truncated":                  {good[:len(good)-10], msgNotZip},
		"damaged content":            {flip, msgNotZip},
		"parent":                     {makeZip(t, item{name: "../x"}), msgNotZip},
		"parent inside":              {makeZip(t, item{name: "a/../b"}), msgNotZip},
		"parent at the end":          {makeZip(t, item{name: "a/.."}), msgNotZip},
		"absolute":                   {makeZip(t, item{name: "/etc/passwd"}), msgNotZip},
		"drive":                      {makeZip(t, item{name: "C:/x"}), msgNotZip},
		"backslash drive":            {makeZip(t, item{name: `C:\x`}), msgNotZip},
		"backslash parent":           {makeZip(t, item{name: `..\x`}), msgNotZip},
		"backslash parent inside":    {makeZip(t, item{name: `a\..\..\x`}), msgNotZip},
		"backslash absolute":         {makeZip(t, item{name: `\x`}), msgNotZip},
		"zero byte":                  {makeZip(t, item{name: "a\x00b"}), msgNotZip},
		"long name":                  {makeZip(t, item{name: strings.Repeat("n", 256)}), msgNotZip},
		"long path":                  {makeZip(t, item{name: strings.Repeat("n/", 2500) + "x"}), msgNotZip},
		"twice":                      {makeZip(t, ok, ok), msgNotZip},
		"twice by another spelling":  {makeZip(t, ok, item{name: "./ok"}), msgNotZip},
		"file and directory":         {makeZip(t, item{name: "a"}, item{name: "a/b"}), msgNotZip},
		"directory and file":         {makeZip(t, item{name: "a/b"}, item{name: "a"}), msgNotZip},
		"through a link":             {makeZip(t, link("a", "."), item{name: "a/b"}), msgNotZip},
		"link and file":              {makeZip(t, link("a", "b"), item{name: "a"}), msgNotZip},
		"link to parent":             {makeZip(t, link("a", "../x")), msgNotZip},
		"link to root":               {makeZip(t, link("a", "/")), msgNotZip},
		"link to /etc":               {makeZip(t, link("a", "/etc/shadow")), msgNotZip},
		"link to /optional":          {makeZip(t, link("a", "/optional")), msgNotZip},
		"link out of /opt":           {makeZip(t, link("a", "/opt/../etc")), msgNotZip},
		"link out of /var/task":      {makeZip(t, link("a", "/var/task/b/../../..")), msgNotZip},
		"link climbing through link": {makeZip(t, item{name: "d/f"}, link("d/up", ".."), link("x", "d/up/../secret")), msgNotZip},
		"link out through another":   {makeZip(t, link("x", "y/../.."), link("y", "/opt/a")), msgNotZip},
		"link without target":        {makeZip(t, link("x", "")), msgNotZip},
		"link with zero byte":        {makeZip(t, link("x", "a\x00")), msgNotZip},
		"link with a long target":    {makeZip(t, link("x", strings.Repeat("a/", 3000))), msgNotZip},
		"device":                     {special(fs.ModeDevice), msgNotZip},
		"character device":           {special(fs.ModeDevice | fs.ModeCharDevice), msgNotZip},
		"fifo":                       {special(fs.ModeNamedPipe), msgNotZip},
		"socket":                     {special(fs.ModeSocket), msgNotZip},
		"encrypted":                  {makeZip(t, item{name: "x", edit: func(h *zip.FileHeader) { h.Flags |= flagEncrypted }}), msgNotZip},
		"unsupported compression":    {raw(t, "x", 12, []byte("abc"), 3), msgNotZip},
		"more than declared":         {raw(t, "x", zip.Store, []byte("abcdef"), 3), msgNotZip},
		"less than declared":         {raw(t, "x", zip.Store, []byte("abc"), 6), msgNotZip},
		"too large":                  {bomb(t, firn.MaxUnzippedBytes+1), tooLargeMessage},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := inspect(c.data)
			f, ok := errors.AsType[*firn.Fault](err)
			if !ok {
				t.Fatalf("%+v, %v; want a Fault", info, err)
			}
			if f.Kind != firn.InvalidParameterValue || f.Message != c.want {
				t.Errorf("%s %q, want %s %q", f.Kind, f.Message, firn.InvalidParameterValue, c.want)
			}
		})
	}
}

const tooLargeMessage = "Unzipped size must be smaller than 262144000 bytes"

func TestInspectAccepts(t *testing.T) {
	for name, data := range map[string][]byte{
		"the limit itself":       bomb(t, firn.MaxUnzippedBytes),
		"link inside":            makeZip(t, item{name: "a/b"}, link("a/c", "../d"), link("d", "a/b")),
		"dangling link":          makeZip(t, link("a", "nowhere")),
		"loop":                   makeZip(t, link("a", "b"), link("b", "a")),
		"link to the root":       makeZip(t, item{name: "a/b"}, link("a/c", "..")),
		"absolute link to /opt":  makeZip(t, link("a", "/opt/lib/x.so")),
		"absolute link to task":  makeZip(t, link("a", "/var/task/x/../y")),
		"directories twice":      makeZip(t, item{name: "a/"}, item{name: "a/"}, item{name: "a/b"}),
		"dot directory":          makeZip(t, item{name: "./"}, item{name: "./a"}),
		"double slash":           makeZip(t, item{name: "a//b"}),
		"two dots in a name":     makeZip(t, item{name: "a..b/..c"}),
		"backslash in a name":    makeZip(t, item{name: `dir\file`}),
		"name that is not UTF-8": makeZip(t, item{name: "dir\xff/\xfe"}),
		"prefix before the zip":  append([]byte("#!/bin/sh\n"), makeZip(t, item{name: "a"})...),
		"empty file":             makeZip(t, item{name: "a"}),
		"setuid":                 makeZip(t, item{name: "a", mode: fs.ModeSetuid | 0o755}),
		"colon":                  makeZip(t, item{name: "a:b"}),
	} {
		if _, err := inspect(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// raw makes a one-file archive whose header says what it is told to.
func raw(t testing.TB, name string, method uint16, content []byte, declared uint64) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	f, err := w.CreateRaw(&zip.FileHeader{
		Name: name, Method: method, CRC32: crc32.ChecksumIEEE(content),
		CompressedSize64: uint64(len(content)), UncompressedSize64: declared,
	})
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// bomb makes an archive of files of zeros.
func bomb(t testing.TB, sizes ...int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	block := make([]byte, 1<<20)
	for i, size := range sizes {
		f, err := w.Create(fmt.Sprintf("zeros-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		for size > 0 {
			n, err := f.Write(block[:min(size, int64(len(block)))])
			if err != nil {
				t.Fatal(err)
			}
			size -= int64(n)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// An archive whose entries share one compressed content is small, and its
// declared sizes may lie: what comes out is counted, and stopped.
func TestInspectStopsOverlappingBomb(t *testing.T) {
	one := bomb(t, 32<<20)
	z, err := zip.NewReader(bytes.NewReader(one), int64(len(one)))
	if err != nil {
		t.Fatal(err)
	}
	dir := bytes.Index(one, []byte("PK\x01\x02"))
	end := bytes.Index(one, []byte("PK\x05\x06"))
	if dir < 0 || end < 0 || len(z.File) != 1 {
		t.Fatal("the archive is not as expected")
	}
	header := one[dir:end]
	data := bytes.Clone(one[:dir])
	const copies = 2000
	for i := range copies {
		entry := bytes.Clone(header)
		copy(entry[46:], fmt.Sprintf("z%06d", i)) // the name "zeros-0"
		data = append(data, entry...)
	}
	tail := bytes.Clone(one[end:])
	binary.LittleEndian.PutUint16(tail[8:], copies)
	binary.LittleEndian.PutUint16(tail[10:], copies)
	binary.LittleEndian.PutUint32(tail[12:], uint32(copies*len(header)))
	start := time.Now()
	_, err = inspect(append(data, tail...))
	if f, ok := errors.AsType[*firn.Fault](err); !ok || f.Message != tooLargeMessage {
		t.Errorf("%v, want %q", err, tooLargeMessage)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v: inflating went on", took)
	}
}

// The number of entries is bounded before memory is spent on them.
func TestInspectBoundsTheDirectory(t *testing.T) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i := range 250_000 {
		if _, err := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprintf("file-with-a-name-%020d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := inspect(buf.Bytes())
	if !errors.Is(err, errDirectory) {
		t.Errorf("%v, want %v", err, errDirectory)
	}
}

func TestInspectCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	data := bomb(t, 1<<20)
	if _, err := Inspect(ctx, bytes.NewReader(data), int64(len(data))); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestCheckTotal(t *testing.T) {
	const most = firn.MaxUnzippedBytes
	for _, c := range []struct {
		function int64
		layers   []int64
		want     string
	}{
		{most, nil, ""},
		{most - 10, []int64{4, 6}, ""},
		{most - 10, []int64{4, 7}, "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes." +
			" The actual size is 262144001 bytes."},
		{1, []int64{most, 1}, "Layers consume more than the available size of 262144000 bytes"},
	} {
		err := CheckTotal(c.function, c.layers...)
		f, _ := errors.AsType[*firn.Fault](err)
		if c.want == "" && err != nil || c.want != "" && (f == nil || f.Message != c.want || f.Kind != firn.InvalidParameterValue) {
			t.Errorf("%d %v: %v, want %q", c.function, c.layers, err, c.want)
		}
	}
}
