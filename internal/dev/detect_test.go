package dev

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firn-run/firn/internal/runtimes"
)

// folder makes a folder of files.
func folder(t testing.TB, name string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		write(t, filepath.Join(dir, file), text)
	}
	return dir
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// newest is the runtime that is taken when nothing speaks for another one.
func newest(family runtimes.Family) (name string) {
	for _, r := range runtimes.All() {
		if r.Family == family && r.Support == runtimes.Current {
			name = r.Name
		}
	}
	return name
}

func TestDetect(t *testing.T) {
	const goMain = "package main\n\nfunc main() {}\n"
	for _, test := range []struct {
		name      string
		files     map[string]string
		cfg       Config
		installed []string
		want      string // runtime, handler, build
		fails     string
	}{
		{name: "bootstrap", files: map[string]string{"bootstrap": "#!/bin/sh"}, want: "provided.al2023 bootstrap"},
		{name: "go", files: map[string]string{"go.mod": "module x", "main.go": goMain}, want: "provided.al2023 bootstrap " + goBuild},
		{name: "go with an old build", files: map[string]string{"go.mod": "module x", "cmd.go": goMain, "bootstrap": "\x7fELF"}, want: "provided.al2023 bootstrap " + goBuild},
		{name: "go library", files: map[string]string{"go.mod": "module x", "lib.go": "package lib", "x_test.go": goMain}, fails: "no package main"},
		{name: "go library with a bootstrap", files: map[string]string{"go.mod": "module x", "lib.go": "package lib", "bootstrap": "#!/bin/sh"}, want: "provided.al2023 bootstrap"},
		{name: "python", files: map[string]string{"lambda_function.py": "import os\n\ndef helper():\n  pass\n\ndef lambda_handler(event, context):\n  return 1\n"}, want: newest(runtimes.Python) + " lambda_function.lambda_handler"},
		{name: "python at hand", files: map[string]string{"app.py": "async def handler(event, context): pass"}, installed: []string{"python3.11", "python3.12", "nodejs22.x"}, want: "python3.12 app.handler"},
		{name: "python's version", files: map[string]string{"app.py": "def only(e, c): pass", ".python-version": "3.11.7\n"}, installed: []string{"python3.12"}, want: "python3.11 app.only"},
		{name: "python, two functions", files: map[string]string{"app.py": "def a(e, c): pass\ndef b(e, c): pass\n"}, cfg: Config{Runtime: "python3.13"}, fails: "--handler"},
		{name: "requirements alone", files: map[string]string{"requirements.txt": ""}, fails: "--handler"},
		{name: "requirements and a handler", files: map[string]string{"requirements.txt": ""}, cfg: Config{Handler: "x.y"}, want: newest(runtimes.Python) + " x.y"},
		{name: "node", files: map[string]string{"index.mjs": "import x from 'y'\nexport const handler = async (event) => 1\n"}, want: newest(runtimes.Nodejs) + " index.handler"},
		{name: "node, commonjs", files: map[string]string{"index.js": "module.exports.run = async () => 1\n"}, want: newest(runtimes.Nodejs) + " index.run"},
		{name: "node, main", files: map[string]string{"package.json": `{"main": "./src/app.js", "engines": {"node": ">=22"}}`, "src/app.js": "exports.handler = () => 1"}, want: "nodejs22.x src/app.handler"},
		{name: "node, main outside", files: map[string]string{"package.json": `{"main": "../../x.js"}`}, fails: "--handler"},
		{name: "node, bad manifest", files: map[string]string{"package.json": `{`}, fails: "package.json"},
		{name: "tools of node beside python", files: map[string]string{"package.json": `{}`, "app.py": "def lambda_handler(e, c): pass"}, want: newest(runtimes.Python) + " app.lambda_handler"},
		{name: "node and python", files: map[string]string{"index.js": "exports.handler = 1", "app.py": "def lambda_handler(e, c): pass"}, fails: "choose with --runtime"},
		{name: "node or python", files: map[string]string{"index.js": "exports.handler = 1", "app.py": "def lambda_handler(e, c): pass"}, cfg: Config{Runtime: "nodejs20.x"}, want: "nodejs20.x index.handler"},
		{name: "ruby", files: map[string]string{"lambda_function.rb": "def lambda_handler(event:, context:)\n 1\nend\n"}, want: newest(runtimes.Ruby) + " lambda_function.lambda_handler"},
		{name: "maven", files: map[string]string{"pom.xml": "<maven.compiler.release>17</maven.compiler.release>",
			"src/main/java/a/H.java": "package a.b;\n\npublic class H\n    implements RequestHandler<String, String> {\n}"}, want: "java17 a.b.H::handleRequest " + mavenBuild},
		{name: "gradle, two handlers", files: map[string]string{"build.gradle": "", "src/main/java/A.java": "class A implements RequestHandler<X, Y> {}",
			"src/main/java/B.java": "class B implements RequestStreamHandler {}"}, fails: "--handler"},
		{name: "jar", files: map[string]string{"f.jar": "PK"}, cfg: Config{Handler: "a.B::c"}, want: newest(runtimes.Java) + " a.B::c"},
		{name: "a runtime that is not known", files: map[string]string{"bootstrap": ""}, cfg: Config{Runtime: "cobol85"}, fails: `unknown runtime "cobol85"`},
		{name: "custom from a build", cfg: Config{Runtime: "provided.al2", Build: "make", Code: "out"}, want: "provided.al2 bootstrap make"},
		{name: "nothing", files: map[string]string{"README.md": "x"}, fails: "cannot tell"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := test.cfg
			cfg.Folder, cfg.Installed = folder(t, "fn", test.files), test.installed
			p, err := detect(cfg)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("%+v, %v; want an error with %q", p, err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(p.Runtime + " " + p.Handler + " " + p.Build); got != test.want || p.Name != "fn" {
				t.Errorf("%s: %s, want %s", p.Name, got, test.want)
			}
		})
	}
	if _, err := detect(Config{Folder: filepath.Join(t.TempDir(), "gone")}); err == nil {
		t.Error("a folder that does not exist is detected")
	}
	file := filepath.Join(folder(t, "x", map[string]string{"f": ""}), "f")
	if _, err := detect(Config{Folder: file}); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a file: %v", err)
	}
}

func TestFunctionNames(t *testing.T) {
	for in, want := range map[string]string{
		"hello": "hello", "my function": "my-function", "über.fn": "ber-fn", "...": "function",
		strings.Repeat("a", 90): strings.Repeat("a", 64), "under_score-1": "under_score-1",
	} {
		if got := functionName(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestClassOf(t *testing.T) {
	for path, want := range map[string]struct {
		c  class
		at string
	}{
		".": {classCode, "."}, "index.js": {classCode, "index.js"}, "a/b.py": {classCode, "a/b.py"}, ".env": {classCode, ".env"},
		".git/HEAD": {classNothing, ".git"}, "sub/.git": {classNothing, "sub/.git"}, ".venv/bin/python": {classNothing, ".venv"},
		"node_modules": {classBulk, "node_modules"}, "pkg/node_modules/x/index.js": {classBulk, "pkg/node_modules"},
		"__pycache__/x.cpython-313.pyc": {classSilent, "__pycache__"}, "x.pyc": {classSilent, "x.pyc"},
		"index.js~": {classNothing, "index.js~"}, ".index.js.swp": {classNothing, ".index.js.swp"}, "a/4913": {classNothing, "a/4913"},
		".#index.js": {classNothing, ".#index.js"}, "#index.js#": {classNothing, "#index.js#"},
		"index.js___jb_tmp___": {classNothing, "index.js___jb_tmp___"}, ".swagger": {classCode, ".swagger"}, "git": {classCode, "git"},
	} {
		if c, at := classOf(path); c != want.c || at != want.at {
			t.Errorf("%s: %d at %s, want %d at %s", path, c, at, want.c, want.at)
		}
	}
}
