package runtimes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image/oci"
)

// DefaultRegistry is where AWS publishes the base images of its runtimes.
const DefaultRegistry = "public.ecr.aws/lambda"

// Origins of runtimes, as Manifest.Origin.
const (
	Built    = "built"    // by Build
	Pulled   = "pulled"   // by Pull, from a registry
	Imported = "imported" // by Pull, from a file
)

// PullOptions say where Pull takes an image from. The zero value is AWS's base
// image from AWS's registry.
type PullOptions struct {
	// Registry is HOST[:PORT][/PREFIX] that has AWS's base images under their
	// own names ("python:3.13"); "" is DefaultRegistry.
	Registry string
	// Image is another image, REGISTRY/NAME:TAG or REGISTRY/NAME@DIGEST; with
	// From it is the name of the one that is meant in a file with several.
	Image string
	// From is a file instead of a registry: an OCI layout, as a directory or a
	// tarball, or what `docker save` has written.
	From     string
	Insecure bool // plain HTTP is tried too
	// Progress is told of each step, and again and again while layers come;
	// never twice at once. It must not block. Nil tells nobody.
	Progress func(Progress)
}

// FetchError says that an image could not be had, and which other ways there
// are. Err is oci's.
type FetchError struct {
	Name      string // of the runtime
	Tried     string // the reference or file
	Buildable bool   // Build may bring the runtime
	Err       error
}

// Unwrap is the reason.
func (e *FetchError) Unwrap() error { return e.Err }

// Error tells what was tried, and the alternatives.
func (e *FetchError) Error() string {
	text := fmt.Sprintf("fetch %s: %v\nOther ways: firn runtime pull %s with --registry HOST/PREFIX (a registry that has AWS's base images), "+
		"--image REF (another image) or --from FILE (an OCI layout, or what docker save has written)", e.Tried, e.Err, e.Name)
	if e.Buildable {
		text += "; firn runtime build " + e.Name + " (from this machine's interpreter)"
	}
	return text
}

// Buildable says whether Build can make the runtime on some host.
func (r Runtime) Buildable() bool {
	_, err := stepsOf(r)
	return err == nil
}

// Pull brings a runtime as an image, whose root file system is then all that
// its functions see, and puts it in the place of the one that the store has.
// What an earlier pull has brought, of this image or another, is not fetched
// again. Errors are a *FetchError, or say what the image lacks.
func (s *Store) Pull(ctx context.Context, name string, opt PullOptions) (Manifest, error) {
	m, err := s.pull(ctx, name, opt)
	if err != nil {
		return Manifest{}, fmt.Errorf("pull runtime %s: %w", name, err)
	}
	return m, nil
}

func (s *Store) pull(ctx context.Context, name string, opt PullOptions) (m Manifest, err error) {
	r, ok := Lookup(name)
	switch {
	case !ok:
		return m, errors.New("there is no such runtime")
	case !r.Managed():
		return m, errors.New("it need not be here: functions bring their own runtime, and run over the host's system libraries")
	}
	source, err := opt.source(r)
	if err != nil {
		return m, err
	}
	images, err := s.openImages(ctx)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, images.Close()) }()
	lock, err := s.lock(name, "another build or pull of it is under way")
	if err != nil {
		return m, err
	}
	defer lock.Close()
	img, err := opt.fetch(ctx, images.parts, source)
	if err != nil {
		return m, &FetchError{Name: name, Tried: source, Buildable: r.Buildable(), Err: err}
	}
	opt.tell(Progress{Step: 2, Text: "unpacking " + string(img.Digest)})
	m, err = s.unpack(ctx, images, r, img)
	if err != nil {
		return m, fmt.Errorf("%s: %w", source, err)
	}
	m.Origin, m.Source = Pulled, source
	if opt.From != "" {
		m.Origin = Imported
	}
	opt.tell(Progress{Step: 3, Text: "installing"})
	work := s.work(name)
	before, _ := s.manifest(name) // none is no image either
	if err := s.install(filepath.Join(work, "root"), m); err != nil {
		return m, err
	}
	if err := errors.Join(os.RemoveAll(work), s.sweepImages(ctx, images, before.Digest)); err != nil {
		return m, fmt.Errorf("it is here, but what it replaces could not be cleared away: %w", err)
	}
	return m, nil
}

// pullSteps are fetching, unpacking and installing.
const pullSteps = 3

func (o PullOptions) tell(p Progress) {
	if p.Steps = pullSteps; o.Progress != nil {
		o.Progress(p)
	}
}

// source is the reference or file to take.
func (o PullOptions) source(r Runtime) (string, error) {
	switch {
	case o.From != "":
		if o.Registry != "" {
			return "", errors.New("a file or a registry, not both")
		}
		return filepath.Abs(o.From)
	case o.Image != "":
		if o.Registry != "" {
			return "", errors.New("an image has its registry in its name: give one of the two")
		}
		return o.Image, nil
	case r.BaseImage() == "":
		return "", errors.New("AWS publishes no base image of it; name one that has it")
	}
	registry := strings.TrimRight(o.Registry, "/")
	if registry == "" {
		registry = DefaultRegistry
	}
	return registry + "/" + r.BaseImage(), nil
}

// fetch brings the parts of an image.
func (o PullOptions) fetch(ctx context.Context, parts *oci.Store, source string) (*oci.Image, error) {
	o.tell(Progress{Step: 1, Text: "fetching " + source})
	if o.From != "" {
		return parts.Import(ctx, o.From, oci.ImportOptions{Reference: o.Image})
	}
	return parts.Pull(ctx, source, oci.PullOptions{
		Auth: oci.Auth{Keychain: true}, Insecure: o.Insecure,
		Progress: func(p oci.Progress) {
			o.tell(Progress{Step: 1, Text: "fetching " + source, Done: p.Done, Total: p.Total, Layers: p.Layers})
		},
	})
}

// unpack makes the tree of an image in the work directory. Its files are
// shared with the trees that have the same layers.
func (s *Store) unpack(ctx context.Context, images *images, r Runtime, img *oci.Image) (Manifest, error) {
	m := Manifest{Name: r.Name, Digest: oci.Hex(img.Digest), Whole: true, Made: time.Now().UTC().Truncate(time.Second)}
	from, err := images.roots.Root(ctx, img.Digest)
	if err != nil {
		return m, err
	}
	if err := checkStart(from); err != nil {
		return m, err
	}
	work := s.work(r.Name)
	if err := os.RemoveAll(work); err != nil {
		return m, err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return m, err
	}
	m.Bytes, m.Files, err = linkTree(ctx, from, filepath.Join(work, "root"))
	return m, err
}

// checkStart looks for the start command of a managed runtime.
func checkStart(dir string) error {
	const file = "var/runtime/bootstrap"
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	switch info, err := root.Lstat(file); {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("this image is not one of a Lambda runtime: it has no /" + file)
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0: // only the sandbox knows where to
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return errors.New("this image is not one of a Lambda runtime: /" + file + " cannot be executed")
	}
	return nil
}

// linkTree makes a tree of the same files, without copying them. Nothing is
// followed, and nobody else writes to either tree.
func linkTree(ctx context.Context, from, to string) (bytes int64, files int, err error) {
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dest := filepath.Join(to, rel)
		if d.IsDir() {
			if err := os.Mkdir(dest, 0o755); err != nil {
				return err
			}
			return os.Chmod(dest, 0o755) // whatever the umask: sandboxes have other users
		}
		if d.Type().IsRegular() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			bytes += info.Size()
			files++
		}
		return os.Link(path, dest) // of a link itself, too
	})
	return bytes, files, err
}

// work is where a runtime is put together.
func (s *Store) work(name string) string { return filepath.Join(s.dir, "work", name) }

// lock keeps all other processes, and the rest of this one, from a part of the
// store until it is closed; busy says why that cannot be now.
func (s *Store) lock(name, busy string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "work", name+".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", busy, err), f.Close())
	}
	return f, nil
}

// Bring makes sure that the store has a runtime: it pulls one that is missing,
// or else builds it, where that is possible. The error has both reasons.
func (s *Store) Bring(ctx context.Context, name string, opt PullOptions) error {
	_, missing := errors.AsType[*MissingError](s.Has(name))
	r, ok := Lookup(name)
	if !missing || !ok {
		return s.Has(name)
	}
	_, err := s.Pull(ctx, name, opt)
	if err == nil || ctx.Err() != nil || !r.Buildable() {
		return err
	}
	if _, other := s.Build(ctx, name, Options{Progress: opt.Progress}); other != nil {
		return errors.Join(err, other)
	}
	return nil
}

// digests are those of the images that names stand for.
func (s *Store) digests() ([]firn.Digest, error) {
	list, err := s.List()
	var all []firn.Digest
	for _, m := range list {
		if m.Whole {
			all = append(all, m.Digest)
		}
	}
	return all, err
}
