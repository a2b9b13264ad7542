package runtimes

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Embedded files of every runtime, and of Python's.
var (
	//go:embed files/bootstrap.head.sh
	scriptHead string
	//go:embed files/bootstrap.tail.sh
	scriptTail string
	//go:embed files/python.sh
	pythonScript string
	//go:embed files/python.py
	pythonMain []byte
)

func pythonSteps() []step {
	return []step{
		{"looking for the interpreter", (*build).findPython},
		{"copying the interpreter and its library", (*build).copyPython},
		{"fetching the runtime interface client", (*build).fetchPythonClient},
		{"compiling", (*build).compilePython},
		{"trying it", (*build).tryPython},
	}
}

// pythonFacts is what an interpreter says of itself.
type pythonFacts struct {
	Version    string // 3.13.0
	Executable string // the real one, not a virtual environment's
	Prefix     string
	Stdlib     string
	Platform   string // folder of the modules that depend on the platform
	LibDir     string
	Library    string // "" when the interpreter is one file
}

const askPython = `
import json, sys, sysconfig
v = sysconfig.get_config_vars()
print(json.dumps({
    "Version": "%d.%d.%d" % sys.version_info[:3],
    "Executable": getattr(sys, "_base_executable", sys.executable),
    "Prefix": sys.base_prefix,
    "Stdlib": sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}),
    "Platform": sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix, "installed_platbase": sys.base_exec_prefix}),
    "LibDir": v.get("LIBDIR") or "",
    "Library": v.get("INSTSONAME") if v.get("Py_ENABLE_SHARED") else "",
}))`

func (b *build) askPython(program string) (facts pythonFacts, err error) {
	out, err := b.run(command{argv: []string{program, "-I", "-c", askPython}})
	if err == nil {
		err = json.Unmarshal([]byte(out), &facts)
	}
	if err == nil && !strings.HasPrefix(facts.Version, b.Version+".") {
		err = fmt.Errorf("%s is Python %s", program, facts.Version)
	}
	return facts, err
}

// findPython looks on PATH, where pyenv and uv keep theirs, and in the usual
// places.
func (b *build) findPython() error {
	name := "python" + b.Version
	candidates := []string{b.Interpreter}
	if b.Interpreter == "" {
		candidates = nil
		for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
			candidates = append(candidates, filepath.Join(dir, name))
		}
		home, _ := os.UserHomeDir()
		for _, pattern := range []string{
			filepath.Join(os.Getenv("PYENV_ROOT"), "versions", b.Version+".*", "bin", name),
			filepath.Join(home, ".pyenv/versions", b.Version+".*", "bin", name),
			filepath.Join(home, ".local/share/uv/python/cpython-"+b.Version+".*", "bin", name),
			"/usr/local/bin/" + name, "/usr/bin/" + name, "/opt/python*/bin/" + name,
		} {
			found, _ := filepath.Glob(pattern) // the patterns are well-formed
			slices.SortFunc(found, func(a, b string) int { return compareVersions(b, a) })
			candidates = append(candidates, found...)
		}
	}
	var errs []error
	for _, path := range candidates {
		if _, err := exec.LookPath(path); err != nil {
			if b.Interpreter != "" {
				errs = append(errs, err)
			}
			continue
		}
		facts, err := b.askPython(path)
		if err != nil {
			errs = append(errs, err) // pyenv's shims of versions that are not selected
			continue
		}
		b.python = facts
		b.m.Interpreter = "Python " + facts.Version + " of " + facts.Prefix
		return nil
	}
	return errors.Join(&NeedError{What: name + ", on PATH or from pyenv or uv, or named with --interpreter"}, errors.Join(errs...))
}

var digits = regexp.MustCompile(`\d+`)

// compareVersions orders paths by the numbers in them.
func compareVersions(a, b string) int {
	return slices.CompareFunc(digits.FindAllString(a, -1), digits.FindAllString(b, -1), func(x, y string) int {
		m, _ := strconv.Atoi(x) // digits
		n, _ := strconv.Atoi(y)
		return m - n
	})
}

// skipPython leaves out what no function needs: tests, tools with windows, the
// static library, other people's packages. Bytecode is made anew.
func skipPython(path string, isDir bool) bool {
	switch top, _, _ := strings.Cut(path, "/"); {
	case slices.Contains([]string{"site-packages", "dist-packages", "test", "idlelib", "turtledemo", "tkinter", "ensurepip",
		"sitecustomize.py", "EXTERNALLY-MANAGED"}, top):
		return true
	case strings.HasPrefix(top, "config-"+"3"):
		return true
	}
	name := filepath.Base(path)
	return isDir && (name == "__pycache__" || name == "tests" || name == "test") || strings.HasSuffix(name, ".a")
}

func (b *build) copyPython() error {
	py, name := b.python, "python"+b.Version
	if err := copyFile(py.Executable, b.lang("bin", name)); err != nil {
		return err
	}
	for _, link := range []string{"python3", "python"} {
		if err := os.Symlink(name, b.lang("bin", link)); err != nil {
			return err
		}
	}
	library := copying{b.ctx, skipPython}
	if err := library.dir(py.Stdlib, b.lang("lib", name)); err != nil {
		return err
	}
	if py.Platform != py.Stdlib {
		if err := library.dir(filepath.Join(py.Platform, "lib-dynload"), b.lang("lib", name, "lib-dynload")); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(b.lang("lib", name, "site-packages"), 0o755); err != nil {
		return err
	}
	if err := b.copyLibraries(py); err != nil {
		return err
	}
	return relocate(b.lang(), b.lang("lib"), []string{py.Prefix, py.LibDir})
}

// copyLibraries copies the shared libraries that the interpreter and its
// modules need and that are not the system's: sandboxes see only /usr and /lib.
func (b *build) copyLibraries(py pythonFacts) error {
	modules, err := filepath.Glob(filepath.Join(py.Platform, "lib-dynload", "*.so"))
	if err != nil {
		return err
	}
	out, err := b.run(command{argv: append([]string{"ldd", py.Executable}, modules...)})
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		_, path, found := strings.Cut(strings.TrimSpace(line), " => ")
		path, _, _ = strings.Cut(path, " (")
		if !found || !filepath.IsAbs(path) || ofSystem(path) {
			continue
		}
		if err := copyFile(path, b.lang("lib", filepath.Base(path))); err != nil {
			return err
		}
	}
	return nil
}

func ofSystem(path string) bool {
	for _, dir := range []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64"} {
		if below(path, dir) {
			return true
		}
	}
	return false
}

// pythonPackages are what goes into var/runtime. The newest client that knows
// the version is the right one; the SDK is AWS's choice for its own runtimes.
func (b *build) pythonPackages() []string {
	list := []string{"awslambdaric"}
	if !b.NoSDK {
		list = append(list, "boto3")
	}
	return list
}

// fetchPythonClient runs pip in a virtual environment of the interpreter, or
// beside it where that cannot be made (Debian without python3-venv). Only
// packages that are built already are taken.
func (b *build) fetchPythonClient() error {
	venv := filepath.Join(b.work, "venv")
	pip := filepath.Join(venv, "bin", "python")
	if _, err := b.run(command{argv: []string{b.python.Executable, "-I", "-m", "venv", venv}}); err != nil {
		if _, noPip := b.run(command{argv: []string{b.python.Executable, "-I", "-m", "pip", "--version"}}); noPip != nil {
			return errors.Join(&NeedError{What: "pip or venv for " + b.python.Executable}, err)
		}
		pip = b.python.Executable
	}
	argv := append([]string{pip, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:",
		"--no-warn-script-location", "--disable-pip-version-check", "--target", b.client()}, b.pythonPackages()...)
	if _, err := b.run(command{argv: argv, env: []string{"PIP_REQUIRE_VIRTUALENV=false"}}); err != nil {
		return err
	}
	if err := os.RemoveAll(b.client("bin")); err != nil { // scripts with the host's paths
		return err
	}
	found, err := filepath.Glob(b.client("awslambdaric-*.dist-info"))
	if err != nil || len(found) != 1 {
		return errors.Join(errors.New("pip has not brought awslambdaric"), err)
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(found[0]), "awslambdaric-"), ".dist-info")
	b.m.Client = "awslambdaric " + version
	if err := os.WriteFile(b.client("bootstrap.py"), pythonMain, 0o644); err != nil {
		return err
	}
	return b.writeScript(scriptHead + strings.ReplaceAll(pythonScript, "@VERSION@", b.Version) + scriptTail)
}

// compilePython makes the bytecode, since nobody can write it later. It is
// marked as never to be compared with its source: the tree does not change.
// Without the seed, which isolated mode ignores, each build's would differ.
func (b *build) compilePython() error {
	for _, dir := range []string{b.lang("lib", "python"+b.Version), b.client()} {
		argv := []string{b.lang("bin", "python"+b.Version), "-s", "-m", "compileall", "-q", "-j", strconv.Itoa(runtime.NumCPU()),
			"-x", `lib2to3/tests|/bad_|site-packages/.*/templates/`, "--invalidation-mode", "unchecked-hash",
			"-s", b.root, "-p", "/", dir}
		if _, err := b.run(command{argv: argv, env: []string{"PYTHONHASHSEED=0"}}); err != nil {
			return err
		}
	}
	return nil
}

// tryPython imports what is compiled, without help from the host's files.
func (b *build) tryPython() error {
	check := "import sys; sys.path.insert(0, " + strconv.Quote(b.client()) + "); " +
		"assert sys.prefix == " + strconv.Quote(b.lang()) + ", sys.prefix; import ssl, ctypes, awslambdaric.bootstrap, runtime_client"
	_, err := b.run(command{argv: []string{b.lang("bin", "python"+b.Version), "-I", "-B", "-c", check}, env: []string{"LD_LIBRARY_PATH=" + b.lang("lib")}})
	return err
}
