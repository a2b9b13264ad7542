package environment

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sandbox"
)

// Extensions are found through the links of layers and images as processes
// inside would follow them, and never outside of them.
func TestListExtensions(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		image   bool
		files   []string
		links   map[string]string
		want    []string
		disable bool
		err     error
	}{
		"nothing":                  {},
		"a layer":                  {files: []string{"extensions/b", "extensions/a", "extensions/sub/c"}, want: []string{"a", "b"}},
		"a layer with a link":      {files: []string{"real/a"}, links: map[string]string{"extensions": "/opt/real"}, want: []string{"a"}},
		"a layer linked elsewhere": {links: map[string]string{"extensions": "/etc"}},
		"a layer linked above":     {links: map[string]string{"extensions": "../../etc"}},
		"a file":                   {files: []string{"extensions"}},
		"disabled":                 {files: []string{"extensions/a", disableExtensions}, disable: true},
		"an image":                 {image: true, files: []string{"opt/extensions/a"}, want: []string{"a"}},
		"an image without":         {image: true},
		"an image, disabled":       {image: true, files: []string{"opt/extensions/a", "opt/" + disableExtensions}, disable: true},
		"an image with links": {image: true, files: []string{"usr/ext/a"}, want: []string{"a"},
			links: map[string]string{"opt": "../../var/opt", "var/opt/extensions": "/lib/ext", "lib": "usr"}},
		"an image with a link that goes round": {image: true, links: map[string]string{"opt": "/opt"}, err: syscall.ELOOP},
		"an image that points at the host":     {image: true, links: map[string]string{"opt/extensions": "/proc/self"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, file := range test.files {
				file = filepath.Join(dir, file)
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o755)); err != nil {
					t.Fatal(err)
				}
			}
			for file, target := range test.links {
				file = filepath.Join(dir, file)
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.Symlink(target, file)); err != nil {
					t.Fatal(err)
				}
			}
			opt, root := dir, ""
			if test.image {
				opt, root = "", dir
			}
			names, disabled, err := listExtensions(opt, root)
			if !slices.Equal(names, test.want) || disabled != test.disable || !errors.Is(err, test.err) {
				t.Errorf("%q %v %v; want %q %v %v", names, disabled, err, test.want, test.disable, test.err)
			}
		})
	}
}

// environment are the variables that the runtime was started with.
func (w *world) environment() map[string]string {
	w.t.Helper()
	var list []string
	if err := json.Unmarshal(w.invoke(command{Do: "environ"}).Payload, &list); err != nil {
		w.t.Fatal(err)
	}
	vars := map[string]string{}
	for _, kv := range list {
		name, value, _ := strings.Cut(kv, "=")
		vars[name] = value
	}
	return vars
}

func imageFixture(change func(*firn.Image), vars map[string]string) fixture {
	return fixture{vars: vars, config: func(c *Config) {
		self := filepath.Join(c.TaskDir, "bootstrap")
		c.Version.Image = &firn.Image{Entrypoint: []string{self}, WorkingDir: c.TaskDir, Env: []string{"FROM_IMAGE=1", "BOTH=image", "BAD"}}
		c.Version.Runtime, c.Version.Handler = "", ""
		if change != nil {
			change(c.Version.Image)
		}
	}}
}

// The runtime of an image is its entry point with the command as arguments, in
// the image's directory and with its variables.
func TestImageEntrypoint(t *testing.T) {
	t.Parallel()
	w := start(t, imageFixture(func(img *firn.Image) {
		img.Command = []string{"app.handler", "two words"}
		img.Env = append(img.Env, "LAMBDA_TASK_ROOT=/function", "AWS_LAMBDA_FUNCTION_NAME=mine", "AWS_EXECUTION_ENV=mine", "PATH=/own")
	}, map[string]string{"BOTH": "customer", "PATH": "/customer"}))
	got := w.environment()
	for name, want := range map[string]string{
		"FROM_IMAGE": "1", "BOTH": "customer", "PATH": "/customer", "AWS_EXECUTION_ENV": "AWS_Lambda_Image",
		"LAMBDA_TASK_ROOT": "/function", "LAMBDA_RUNTIME_DIR": "/var/runtime", "AWS_LAMBDA_FUNCTION_NAME": "fn",
	} {
		if got[name] != want {
			t.Errorf("%s=%q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"_HANDLER", "LD_LIBRARY_PATH", "LANG", "_LAMBDA_TELEMETRY_LOG_FD", "BAD"} {
		if value, there := got[name]; there {
			t.Errorf("%s=%q is set", name, value)
		}
	}
	w.waitReady()
	if args := string(w.invoke(command{Do: "args"}).Payload); args != `["app.handler","two words"]` {
		t.Errorf("arguments %s", args)
	}
}

// What cannot be started in an image has AWS's error types.
func TestImageFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change  func(*firn.Image)
		noBoot  bool
		errType string
		message string // contained
	}{
		"missing":      {func(i *firn.Image) { i.Entrypoint = []string{"/no/such"} }, false, "Runtime.InvalidEntrypoint", "fork/exec /no/such: no such file"},
		"not in PATH":  {func(i *firn.Image) { i.Entrypoint = []string{"no-such-program"} }, false, "Runtime.InvalidEntrypoint", "not found in $PATH"},
		"empty name":   {func(i *firn.Image) { i.Entrypoint = []string{""} }, false, "Runtime.InvalidEntrypoint", "not found in $PATH"},
		"a directory":  {func(i *firn.Image) { i.Entrypoint = []string{"/tmp"} }, false, "Runtime.InvalidEntrypoint", "permission denied"},
		"bad workdir":  {func(i *firn.Image) { i.WorkingDir = "/no/such/dir" }, false, "Runtime.InvalidWorkingDir", ""},
		"nothing said": {func(i *firn.Image) { i.Entrypoint = nil }, true, "Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := imageFixture(test.change, nil)
			f.noBoot = test.noBoot
			out := start(t, f).invoke(command{})
			if out.ErrorType != test.errType || !strings.Contains(string(out.Payload), test.message) {
				t.Errorf("%s %s, want %s %q", out.ErrorType, out.Payload, test.errType, test.message)
			}
		})
	}
}

// A program without a slash is found in PATH, a relative one from the working
// directory, and a command alone is enough.
func TestImagePrograms(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*firn.Image){
		"PATH": func(i *firn.Image) {
			i.Env = []string{"PATH=relative:/no/such:" + i.WorkingDir}
			i.Entrypoint = []string{"bootstrap"}
		},
		"relative": func(i *firn.Image) { i.Entrypoint = []string{"./bootstrap"} },
		"command":  func(i *firn.Image) { i.Command, i.Entrypoint = i.Entrypoint, nil },
		"nothing":  func(i *firn.Image) { i.Entrypoint = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out := start(t, imageFixture(change, nil)).invoke(command{}); out.FunctionError != "" {
				t.Errorf("%s", out.Payload)
			}
		})
	}
}

// A managed runtime that lost its start command says where it was looked for.
func TestManagedWithoutBootstrap(t *testing.T) {
	t.Parallel()
	f := managedFixture(nil)
	f.noBoot = true
	out := start(t, f).invoke(command{})
	if out.ErrorType != "Runtime.InvalidEntrypoint" || !strings.Contains(string(out.Payload), "runtime/bootstrap]") {
		t.Errorf("%s %s", out.ErrorType, out.Payload)
	}
}

func TestManagedVariables(t *testing.T) {
	t.Parallel()
	f := managedFixture(nil)
	f.vars = map[string]string{wrapperVariable: "/opt/wrap", "AWS_EXECUTION_ENV": "mine", "LAMBDA_RUNTIME_DIR": "/mine"}
	w := start(t, f)
	paths := w.box.Paths()
	got := w.environment()
	for name, want := range map[string]string{
		"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13", "LAMBDA_RUNTIME_DIR": paths.Runtime, wrapperVariable: paths.Opt + "/wrap",
		"LANG": "en_US.UTF-8", "TZ": ":UTC", "_LAMBDA_TELEMETRY_LOG_FD": "3",
		"PATH": paths.Lang + "/bin:/usr/local/bin:/usr/bin/:/bin:" + paths.Opt + "/bin",
		"LD_LIBRARY_PATH": paths.Lang + "/lib:/lib64:/usr/lib64:" + paths.Runtime + ":" + paths.Runtime + "/lib:" +
			paths.Task + ":" + paths.Task + "/lib:" + paths.Opt + "/lib",
	} {
		if got[name] != want {
			t.Errorf("%s=%q, want %q", name, got[name], want)
		}
	}
}

func TestWithPaths(t *testing.T) {
	t.Parallel()
	moved := sandbox.Paths{Task: "/a", Opt: "/b", Lang: "/c", Runtime: "/d"}
	for list, want := range map[string]string{
		"/var/task:/var/task/lib:/opt/bin": "/a:/a/lib:/b/bin",
		"/var/lang/bin:/var/runtime":       "/c/bin:/d",
		"/optional:/var/tasks:/usr":        "/optional:/var/tasks:/usr",
	} {
		if got := withPaths(list, moved); got != want {
			t.Errorf("%s: %s, want %s", list, got, want)
		}
	}
}
