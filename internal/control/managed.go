package control

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/runtimes"
)

// Runtimes knows the managed runtimes of this node (package runtimes).
type Runtimes interface {
	// Version is the digest of what runs under a runtime's name now. The
	// error is a *runtimes.MissingError when there is nothing.
	Version(ctx context.Context, name string) (firn.Digest, error)
}

// Bringer is a Runtimes that can fetch what is missing. Functions are then
// taken whether their runtime is here or not, and wait for it.
type Bringer interface {
	Runtimes
	// Bring makes sure that a runtime is here; it may take minutes. The error
	// is told to whoever has made the function.
	Bring(ctx context.Context, name string) error
}

// bringError says that the runtime of a function could not be fetched.
type bringError struct {
	runtime string
	err     error
}

func (e *bringError) Error() string {
	return "The runtime " + e.runtime + " could not be brought to this node: " + strings.ReplaceAll(e.err.Error(), "\n", ". ")
}

func (e *bringError) Unwrap() error { return e.err }

// bringRuntime waits until the managed runtime of rec is here, if this node
// fetches runtimes.
func (c *Control) bringRuntime(ctx context.Context, rec *record) error {
	if !c.lacksRuntime(ctx, rec) {
		return nil
	}
	name := string(rec.Config.Runtime)
	if err := c.cfg.Runtimes.(Bringer).Bring(ctx, name); err != nil {
		return &bringError{name, err}
	}
	return nil
}

// lacksRuntime reports whether the runtime of rec is still to be fetched.
func (c *Control) lacksRuntime(ctx context.Context, rec *record) bool {
	r, _ := runtimes.Lookup(string(rec.Config.Runtime))
	if _, brings := c.cfg.Runtimes.(Bringer); !brings || rec.Image != nil || r.Name == "" || !r.Managed() {
		return false
	}
	_, err := c.cfg.Runtimes.Version(ctx, r.Name)
	_, missing := errors.AsType[*runtimes.MissingError](err)
	return missing
}

// checkRuntime accepts the runtimes that AWS still accepts, if this node has
// them; "" keeps the one that is set.
func (c *Control) checkRuntime(ctx context.Context, name types.Runtime) error {
	if name == "" {
		return nil
	}
	r, known := runtimes.Lookup(string(name))
	if !known {
		return invalid("Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [%s] or be a valid ARN", name, strings.Join(acceptedRuntimes(), ", "))
	}
	if refusal := r.Refusal(); refusal != nil {
		return refusal
	}
	if !r.Managed() {
		return nil
	}
	if c.cfg.Runtimes == nil {
		return notServed("the runtime "+r.Name, "; it serves provided.al2 and provided.al2023")
	}
	_, err := c.cfg.Runtimes.Version(ctx, r.Name)
	if missing, ok := errors.AsType[*runtimes.MissingError](err); ok {
		if _, brings := c.cfg.Runtimes.(Bringer); brings {
			return nil
		}
		return invalid("%s", missing)
	}
	return err
}

// acceptedRuntimes are the names that a function may be made with, in the order
// in which AWS lists them: that of a hash set of Java, which its languages have
// gone into one after the other.
func acceptedRuntimes() []string {
	var names []string
	for _, r := range runtimes.All() {
		if r.Support != runtimes.Blocked {
			names = append(names, r.Name)
		}
	}
	buckets := uint32(16)
	for len(names) > int(buckets)*3/4 {
		buckets *= 2
	}
	bucket := func(name string) uint32 {
		var h uint32
		for _, c := range []byte(name) {
			h = 31*h + uint32(c)
		}
		return (h ^ h>>16) % buckets
	}
	language := func(name string) int {
		return slices.IndexFunc([]string{"nodejs", "java", "python", "dotnet", "ruby", "provided"}, func(l string) bool { return strings.HasPrefix(name, l) })
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(bucket(a), bucket(b)), cmp.Compare(language(a), language(b)))
	})
	return names
}

// describe is a record as the API shows it where it shows all of it: with the
// version of the managed runtime that its next environment runs on.
func (c *Control) describe(ctx context.Context, rec *record) *types.FunctionConfiguration {
	cfg := rec.describe()
	r, _ := runtimes.Lookup(string(cfg.Runtime))
	if c.cfg.Runtimes == nil || r.Name == "" || !r.Managed() {
		return cfg
	}
	if !settled(rec) && c.lacksRuntime(ctx, rec) {
		return cfg // on its way
	}
	digest, err := c.cfg.Runtimes.Version(ctx, r.Name)
	if err != nil {
		cfg.RuntimeVersionConfig = &types.RuntimeVersionConfig{Error: &types.RuntimeVersionError{ErrorCode: ptr("RuntimeNotFound"), Message: ptr(runtimeTrouble(err))}}
		return cfg
	}
	cfg.RuntimeVersionConfig = &types.RuntimeVersionConfig{RuntimeVersionArn: ptr("arn:aws:lambda:" + c.cfg.Region + "::runtime:" + string(digest))}
	return cfg
}

// runtimeTrouble is what a caller may read of an error.
func runtimeTrouble(err error) string {
	if missing, ok := errors.AsType[*runtimes.MissingError](err); ok {
		return missing.Error()
	}
	return "The runtime cannot be read on this node; see firn's log."
}
