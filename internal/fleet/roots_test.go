package fleet

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
)

// platform has runtimes and images.
type platform struct {
	whole bool
	err   error
}

func (p *platform) Runtime(_ context.Context, name string) (string, bool, error) {
	return "/runtimes/" + name, p.whole, p.err
}

func (p *platform) Image(_ context.Context, digest firn.Digest) (string, error) {
	return "/images/" + string(digest), p.err
}

// An environment gets the directories that its version runs from, and no
// others; they count as in use while it lives.
func TestDirectories(t *testing.T) {
	missing := errors.New("not here")
	managed, image, provided := version("managed"), version("image"), version("provided")
	managed.Runtime = "python3.13"
	image.Runtime, image.Code, image.Image = "", "", &firn.Image{Digest: "sha256:1"}
	for name, test := range map[string]struct {
		version  *firn.FunctionVersion
		platform *platform
		want     environment.Config // what of it this is about
		kind     firn.Kind
		err      error
	}{
		"managed":             {version: managed, platform: &platform{}, want: environment.Config{TaskDir: "managed", RuntimeDir: "/runtimes/python3.13"}},
		"managed, an image's": {version: managed, platform: &platform{whole: true}, want: environment.Config{TaskDir: "managed", RootDir: "/runtimes/python3.13"}},
		"provided":            {version: provided, platform: &platform{err: missing}, want: environment.Config{TaskDir: "provided"}},
		"image":               {version: image, platform: &platform{}, want: environment.Config{RootDir: "/images/sha256:1"}},
		"missing runtime":     {version: managed, platform: &platform{err: missing}, err: missing},
		"missing image":       {version: image, platform: &platform{err: missing}, err: missing},
		"no runtimes":         {version: managed, kind: firn.InvalidRuntime},
		"no images":           {version: image, kind: firn.InvalidRuntime},
	} {
		t.Run(name, func(t *testing.T) {
			var got environment.Config
			stop := errors.New("seen enough")
			var r *rig
			r = newRig(t, func(cfg *Config) {
				if test.platform != nil {
					cfg.Runtimes, cfg.Images = test.platform, test.platform
				}
				cfg.Start = func(_ context.Context, c environment.Config) (*environment.Environment, error) {
					got = c
					for _, dir := range []string{c.TaskDir, c.RuntimeDir, c.RootDir} {
						if dir != "" && !slices.Contains(r.InUse(), dir) {
							t.Errorf("%s is not in use: %q", dir, r.InUse())
						}
					}
					return nil, stop
				}
			})
			_, err := r.invoke(test.version, "")
			if test.want.TaskDir != "" {
				test.want.TaskDir = r.roots.dir + "/" + test.want.TaskDir
			}
			if got.TaskDir != test.want.TaskDir || got.RuntimeDir != test.want.RuntimeDir || got.RootDir != test.want.RootDir || got.OptDir != "" {
				t.Errorf("task %q, runtime %q, root %q", got.TaskDir, got.RuntimeDir, got.RootDir)
			}
			fault, _ := errors.AsType[*firn.Fault](err)
			switch {
			case test.kind != "" && (fault == nil || fault.Kind != test.kind):
				t.Errorf("%v, want %s", err, test.kind)
			case test.kind == "" && test.err != nil && !errors.Is(err, test.err):
				t.Errorf("%v, want %v", err, test.err)
			case test.kind == "" && test.err == nil && !errors.Is(err, stop):
				t.Errorf("%v", err)
			}
		})
	}
}
