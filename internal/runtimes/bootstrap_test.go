package runtimes

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/firn-run/firn/internal/require"
)

// startCommand is a runtime whose interpreter is a script that tells how it was
// called, to try the start command with.
type startCommand struct {
	t   *testing.T
	dir string
}

const tellingInterpreter = "#!/bin/sh\nfor a in \"$@\"; do echo \"arg $a\"; done\ntr '\\0' '\\n' < /proc/$$/environ | grep = | sed 's/^/env /'\n"

func newStartCommand(t *testing.T, interpreter, script string) *startCommand {
	t.Helper()
	s := &startCommand{t, t.TempDir()}
	b := &build{root: s.dir, work: t.TempDir()}
	writeTree(t, s.dir, map[string]string{"var/lang/bin/" + interpreter: tellingInterpreter, "var/runtime/x": ""})
	if err := b.writeScript(scriptHead + script + scriptTail); err != nil {
		t.Fatal(err)
	}
	return s
}

// run starts it with the variables of a sandbox, changed.
func (s *startCommand) run(vars map[string]string) (args []string, env map[string]string, out string, status int) {
	s.t.Helper()
	all := map[string]string{
		"LAMBDA_RUNTIME_DIR": s.dir + "/var/runtime", "LAMBDA_TASK_ROOT": "/var/task", "PATH": "/usr/bin:/bin",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1000",
	}
	maps.Copy(all, vars)
	cmd := exec.CommandContext(s.t.Context(), s.dir+"/var/runtime/bootstrap")
	cmd.Env = []string{}
	for k, v := range all {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var buffer bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buffer, &buffer
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	} else if err != nil {
		s.t.Fatal(err)
	}
	env = map[string]string{}
	for line := range strings.Lines(buffer.String()) {
		line = strings.TrimSuffix(line, "\n")
		if arg, ok := strings.CutPrefix(line, "arg "); ok {
			args = append(args, arg)
		} else if kv, ok := strings.CutPrefix(line, "env "); ok {
			k, v, _ := strings.Cut(kv, "=")
			env[k] = v
		}
	}
	return args, env, buffer.String(), status
}

func TestPythonStart(t *testing.T) {
	s := newStartCommand(t, "python3.13", strings.ReplaceAll(pythonScript, "@VERSION@", "3.13"))
	args, env, out, status := s.run(nil)
	if status != 0 || !slices.Equal(args, []string{s.dir + "/var/runtime/bootstrap.py"}) {
		t.Errorf("%d %q %s", status, args, out)
	}
	if env["SHLVL"] != "0" && strings.Contains(out, "SHLVL") {
		t.Errorf("SHLVL=%s", env["SHLVL"])
	}
}

// Variables of the function's own go through, whatever their names: those of
// the start command begin with a line, as a function's never do.
func TestStartLeavesVariables(t *testing.T) {
	java := &build{Runtime: Runtime{Version: "17"}}
	for interpreter, script := range map[string]string{
		"python3.13": strings.ReplaceAll(pythonScript, "@VERSION@", "3.13"), "node": strings.ReplaceAll(nodeScript, "@VERSION@", "22"), "java": java.javaStart(),
	} {
		s := newStartCommand(t, interpreter, script)
		own := map[string]string{}
		for _, m := range regexp.MustCompile(`(?m)(?:^|[^A-Za-z_@-])([a-z_]+)(?:=|\b in )`).FindAllStringSubmatch(scriptHead+script+scriptTail, -1) {
			own[strings.TrimLeft(m[1], "_")] = "mine"
		}
		if len(own) < 4 {
			t.Fatalf("variables of the start command: %v", own)
		}
		_, env, out, _ := s.run(own)
		for name := range own {
			if env[name] != "mine" {
				t.Errorf("%s: %s became %q\n%s", interpreter, name, env[name], out)
			}
		}
	}
}

// A wrapper gets the command line of the interpreter, and what it exports.
func TestWrapperScript(t *testing.T) {
	s := newStartCommand(t, "python3.13", strings.ReplaceAll(pythonScript, "@VERSION@", "3.13"))
	writeTree(t, s.dir, map[string]string{
		"w":        "#!/bin/bash\nargs=(\"$@\")\nexport SEEN=$#\nexec \"${args[0]}\" -v \"${args[@]:1}\"\n",
		"bare":     "#",
		"plain":    "not executable",
		"dir/file": "",
	})
	if err := os.WriteFile(filepath.Join(s.dir, "bare"), []byte("exec \"$@\" bare\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(s.dir, "bare"), 0o755); err != nil {
		t.Fatal(err)
	}
	main := s.dir + "/var/runtime/bootstrap.py"
	for wrapper, want := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"w":     {[]string{"-v", main}, 0, "env SEEN=2"},
		"bare":  {[]string{main, "bare"}, 0, ""}, // without an interpreter line
		"none":  {nil, 127, "none does not exist"},
		"dir":   {nil, 127, "dir does not exist"},
		"plain": {nil, 126, "plain is not executable"},
	} {
		args, _, out, status := s.run(map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": s.dir + "/" + wrapper})
		if !slices.Equal(args, want.args) || status != want.status || !strings.Contains(out, want.says) {
			t.Errorf("%s: %d %q %s", wrapper, status, args, out)
		}
	}
}

func TestNodeStart(t *testing.T) {
	const memory = "--max-semi-space-size=50 --max-old-space-size=900"
	for _, test := range []struct{ version, options, want string }{
		{"20", "", ""},
		{"22", "", "--no-experimental-require-module --no-experimental-detect-module "},
		{"22", "--experimental-require-module", "--no-experimental-detect-module "},
		{"22", "--no-experimental-detect-module --experimental-require-module", ""},
		{"24", "", ""},
	} {
		s := newStartCommand(t, "node", strings.ReplaceAll(nodeScript, "@VERSION@", test.version))
		args, env, out, _ := s.run(map[string]string{"NODE_OPTIONS": test.options, "_FIRN_OPT": "/layers"})
		want := test.want + "--expose-gc --max-http-header-size=81920 " + memory + " " + s.dir + "/var/runtime/index.mjs"
		if got := strings.Join(args, " "); got != want {
			t.Errorf("%s with %q: %s, want %s", test.version, test.options, got, want)
		}
		runtime := s.dir + "/var/runtime"
		path := "/layers/nodejs/node" + test.version + "/node_modules:/layers/nodejs/node_modules:" + runtime + "/node_modules:" + runtime + ":/var/task"
		if env["NODE_PATH"] != path || env["_FIRN_OPT"] != "" {
			t.Errorf("NODE_PATH %q\n%s", env["NODE_PATH"], out)
		}
	}
	s := newStartCommand(t, "node", strings.ReplaceAll(nodeScript, "@VERSION@", "22"))
	if _, env, _, _ := s.run(map[string]string{"NODE_PATH": "/mine"}); env["NODE_PATH"] != "/mine" {
		t.Errorf("the function's NODE_PATH became %q", env["NODE_PATH"])
	}
}

func TestJavaStart(t *testing.T) {
	for version, extra := range map[string]string{
		"8":  "",
		"17": "--add-opens=java.base/java.io=ALL-UNNAMED ",
		"25": "--enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow --add-opens=java.base/java.io=ALL-UNNAMED ",
	} {
		b := &build{Runtime: Runtime{Version: version}}
		s := newStartCommand(t, "java", b.javaStart())
		args, env, _, _ := s.run(map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "se cret", "PWD": "/var/task", "SHLVL": "0"})
		want := "-XX:MaxHeapSize=870400k -XX:MaxMetaspaceSize=102400k -XX:+UseSerialGC -XX:+TieredCompilation -XX:TieredStopAtLevel=1 " +
			"-Xshare:auto " + extra + "-cp " + s.dir + "/var/runtime/lib/* run.firn.Main"
		if got := strings.Join(args, " "); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
		// As recorded from AWS.
		_, pwd := env["PWD"]
		_, level := env["SHLVL"]
		if pwd || level || (env["AWS_ACCESS_KEY"] == "id" && env["AWS_SECRET_KEY"] == "se cret") != (version == "8") {
			t.Errorf("%s: environment %v", version, env)
		}
	}
}

// The class that is carried along is what the compiler makes of the source.
func TestJavaMain(t *testing.T) {
	javac, err := exec.LookPath("javac")
	require.Feature(t, "runtimes", err == nil, "no javac")
	work := t.TempDir()
	writeTree(t, work, map[string]string{"com/amazonaws/services/lambda/runtime/api/client/AWSLambda.java": "package com.amazonaws.services.lambda.runtime.api.client;\n" +
		"public class AWSLambda { public static void main(String[] args) throws Throwable {} }\n"})
	cmd := exec.CommandContext(t.Context(), javac, "-g:none", "--release", "8", "-Xlint:-options", "-cp", work, "-d", work, "files/java/Main.java")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(work, "run/firn/Main.class"))
	if err != nil || !bytes.Equal(text, javaMain) {
		t.Errorf("Main.class is not what Main.java compiles to: %v", err)
	}
}

// ES modules find packages in NODE_PATH, by both of Node.js's ways to extend
// the resolution.
func TestNodePath(t *testing.T) {
	node, err := exec.LookPath("node")
	require.Feature(t, "runtimes", err == nil, "no node")
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{
		"rt/node-path.mjs": string(nodePath),
		"rt/index.mjs":     string(nodeMain),
		"rt/node_modules/aws-lambda-ric/package.json": `{"name":"aws-lambda-ric","exports":"./i.mjs"}`,
		"rt/node_modules/aws-lambda-ric/i.mjs":        "export const run = async (root, handler) => { await import(root + '/' + handler); };",
		"first/node_modules/esm/package.json":         `{"name":"esm","exports":{"import":"./e.mjs","require":"./e.cjs"}}`,
		"first/node_modules/esm/e.mjs":                "export default 'es module';",
		"first/node_modules/esm/e.cjs":                "module.exports = 'common';",
		"first/node_modules/both/index.js":            "module.exports = 'first';",
		"second/node_modules/both/index.js":           "module.exports = 'second';",
		"second/node_modules/own/index.js":            "module.exports = 'a layer has it too';",
		"second/node_modules/broken/index.js":         "require('not-there-either');",
		"plain/single/index.js":                       "module.exports = 'a plain folder';",
		"plain/mod.cjs":                               "module.exports = 'a file';",
		"task/node_modules/own/index.js":              "module.exports = 'the function has it';",
		"task/main.mjs": `import esm from 'esm'; import both from 'both'; import own from 'own'; import single from 'single'; import mod from 'mod.cjs';
import { createRequire } from 'node:module';
console.log(JSON.stringify([esm, both, own, single, mod, createRequire(import.meta.url)('esm'),
  await import('none').catch((e) => e.code), await import('./none.mjs').catch((e) => e.code),
  await import('broken').catch((e) => e.code), await import('esm/hidden').catch((e) => e.code)]));
`,
	})
	cmd := exec.CommandContext(t.Context(), node, filepath.Join(dir, "rt/index.mjs"))
	cmd.Env = []string{
		"NODE_PATH=" + dir + "/first/node_modules:" + dir + "/second/node_modules:" + dir + "/plain", "LAMBDA_TASK_ROOT=" + dir + "/task", "_HANDLER=main.mjs",
	}
	out, err := cmd.CombinedOutput()
	want := `["es module","first","the function has it","a plain folder","a file","common","ERR_MODULE_NOT_FOUND","ERR_MODULE_NOT_FOUND",` +
		`"MODULE_NOT_FOUND","ERR_PACKAGE_PATH_NOT_EXPORTED"]`
	if err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("%v: %s, want %s", err, out, want)
	}
}

func TestPythonPaths(t *testing.T) {
	python, err := exec.LookPath("python3")
	require.Feature(t, "runtimes", err == nil, "no python3")
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{
		"rt/bootstrap.py":             string(pythonMain),
		"rt/awslambdaric/__init__.py": "",
		"rt/awslambdaric/__main__.py": "import os, sys\ndef main(args):\n    print(args[1:], [p for p in sys.path if p.startswith(os.environ['BASE'])], os.environ.get('PYTHONPATH'), '_FIRN_OPT' in os.environ)\n",
		"opt/python/pkg.py":           "",
		"task/extra.pth":              dir + "/pth\n",
		"pth/x":                       "",
	})
	run := func(vars ...string) string {
		cmd := exec.CommandContext(t.Context(), python, filepath.Join(dir, "rt/bootstrap.py"))
		cmd.Env = append([]string{"BASE=" + dir, "LAMBDA_TASK_ROOT=" + dir + "/task", "_FIRN_OPT=" + dir + "/opt", "_HANDLER=a.b", "HOME=" + dir, "PATH=/usr/bin:/bin"}, vars...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.ReplaceAll(strings.TrimSpace(string(out)), dir, "")
	}
	// What Python sets for want of a locale is not there up to 3.11, and there
	// is no want of one from the function.
	locale := func(vars ...string) string {
		cmd := exec.CommandContext(t.Context(), python, "-c", "import os, runpy\nrun = runpy.run_path('"+dir+"/rt/bootstrap.py')\nrun['locale']()\nprint(os.environ.get('LC_CTYPE'))")
		cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, vars...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	old := exec.CommandContext(t.Context(), python, "-c", "import sys; sys.exit(sys.version_info >= (3, 12))").Run() == nil
	if got := locale("LANG=C"); old != (got == "None") {
		t.Errorf("LC_CTYPE is %s without a locale", got)
	}
	if got := locale("LC_CTYPE=C.UTF-8"); got != "C.UTF-8" {
		t.Errorf("the function's LC_CTYPE became %s", got)
	}
	// Instrumentation finds the client's functions by way of the main module.
	writeTree(t, dir, map[string]string{"rt2/bootstrap.py": string(pythonMain), "rt2/awslambdaric/__init__.py": "", "rt2/awslambdaric/bootstrap.py": "",
		"rt2/awslambdaric/__main__.py": "from . import bootstrap\ndef main(args):\n    import __main__\n    print(__main__.awslambdaricmain.bootstrap.__name__)\n"})
	cmd := exec.CommandContext(t.Context(), python, filepath.Join(dir, "rt2/bootstrap.py"))
	cmd.Env = []string{"LAMBDA_TASK_ROOT=" + dir + "/task", "PATH=/usr/bin:/bin"}
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "awslambdaric.bootstrap" {
		t.Errorf("%v: %s", err, out)
	}
	got := run()
	if !strings.HasPrefix(got, "['a.b'] ['/task', '/opt/python/lib/python3.") || !strings.Contains(got, "/site-packages', '/opt/python', '/rt', '/pth'") ||
		!strings.HasSuffix(got, "] /rt False") {
		t.Error(got)
	}
	got = run("PYTHONPATH=" + dir + "/mine")
	if got != "['a.b'] ['/task', '/rt', '/mine', '/pth'] /mine False" {
		t.Error(got)
	}
}

func buildIn(t *testing.T, s *Store, ctx context.Context, name string, opt Options) error {
	t.Helper()
	_, err := s.Build(ctx, name, opt)
	if err == nil {
		t.Fatalf("%s was built", name)
	}
	return err
}

// A build that cannot be says why, and leaves the store as it was.
func TestBuildRefused(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, name := range []string{"ruby3.4", "dotnet8", "go1.x", "provided.al2023"} {
		if err := buildIn(t, s, t.Context(), name, Options{}); !errors.Is(err, ErrUnbuildable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	buildIn(t, s, t.Context(), "python3.99", Options{})
	var steps []Progress
	err := buildIn(t, s, t.Context(), "python3.6", Options{Interpreter: "/no/such/python", Progress: func(p Progress) { steps = append(steps, p) }})
	if need, ok := errors.AsType[*NeedError](err); !ok || !strings.Contains(need.What, "python3.6") || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if len(steps) != 1 || steps[0] != (Progress{Step: 1, Steps: 6, Text: "looking for the interpreter"}) {
		t.Errorf("%+v", steps)
	}
	jdk := t.TempDir()
	writeTree(t, jdk, map[string]string{"release": "IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"21.0.8\"\n"})
	if err := buildIn(t, s, t.Context(), "java17", Options{Interpreter: jdk}); !strings.Contains(err.Error(), "is Java 21.0.8") {
		t.Error(err)
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
}

// Only one build of a runtime is under way, and its end is the context's.
func TestBuildStops(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	jdk := t.TempDir()
	writeTree(t, jdk, map[string]string{
		"release": "JAVA_VERSION=\"17.0.1\"\n", "bin/java": "#!/bin/sh\nsleep 1000 & wait\n",
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var second error
	err := buildIn(t, s, ctx, "java17", Options{Interpreter: jdk, Progress: func(p Progress) {
		if p.Step == 2 {
			_, second = openStore(t, dir).Build(t.Context(), "java17", Options{})
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if second == nil || !strings.Contains(second.Error(), "another build") {
		t.Errorf("the second build: %v", second)
	}
}

// What a program of the host has said is in the error, its end at most.
func TestRunFailure(t *testing.T) {
	b := &build{ctx: t.Context(), work: t.TempDir()}
	_, err := b.run(command{argv: []string{"/bin/sh", "-c", "head -c 9000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 3"}})
	if err == nil || !strings.HasSuffix(err.Error(), "the end") || len(err.Error()) > outputKept+200 || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%d bytes: %.300v", len(err.Error()), err)
	}
	out, err := b.run(command{argv: []string{"/bin/sh", "-c", "echo $MINE; echo no >&2"}, env: []string{"MINE=yes"}})
	if err != nil || out != "yes\n" {
		t.Errorf("%q %v", out, err)
	}
	err = need("for a test", "sh", "no-such-program-a", "no-such-program-b")
	if err == nil || err.Error() != "this build needs no-such-program-a, no-such-program-b for a test" {
		t.Error(err)
	}
}

func TestCompareVersions(t *testing.T) {
	list := []string{"/v/3.9.2/x", "/v/3.13.0/x", "/v/3.13/x", "/v/3.9.10/x"}
	slices.SortFunc(list, compareVersions)
	if want := []string{"/v/3.9.2/x", "/v/3.9.10/x", "/v/3.13/x", "/v/3.13.0/x"}; !slices.Equal(list, want) {
		t.Errorf("%q", list)
	}
}
