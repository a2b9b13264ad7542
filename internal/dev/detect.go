package dev

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/firn-run/firn/internal/runtimes"
)

// Project is what a folder holds.
type Project struct {
	Folder  string // absolute
	Name    string
	Runtime string
	Handler string
	// Build is a command for the shell that makes the code; "" when the
	// folder is the code. Its environment has FIRN_BUILD, a folder for it.
	Build string
	// Work is a folder for what is made of it.
	Work string

	layout layout
	code   string // Config.Code, absolute; "" for the layout's
	ignore []string
}

// layout is how the code lies in the folder.
type layout int

const (
	plain  layout = iota // the folder is the code
	golang               // a main package: bootstrap is built
	maven                // target/classes and target/dependency
	jar                  // a jar with everything
)

// detect finds out what cfg.Folder holds; what cfg says goes first.
func detect(cfg Config) (Project, error) {
	folder, err := filepath.Abs(cfg.Folder)
	if err == nil {
		folder, err = filepath.EvalSymlinks(folder)
	}
	if err != nil {
		return Project{}, err
	}
	info, err := os.Stat(folder)
	if err != nil {
		return Project{}, err
	}
	if !info.IsDir() {
		return Project{}, fmt.Errorf("%s is not a folder", cfg.Folder)
	}
	d := detector{folder: folder, installed: cfg.Installed}
	p, err := d.detect(cfg.Runtime, cfg.Handler)
	if err != nil {
		return Project{}, err
	}
	p.Folder = folder
	p.Name = cmp.Or(cfg.Name, functionName(filepath.Base(folder)))
	p.Runtime, p.Handler = cmp.Or(cfg.Runtime, p.Runtime), cmp.Or(cfg.Handler, p.Handler)
	p.ignore = []string{cfg.Server.DataDir}
	if cfg.Build != "" {
		p.Build, p.layout = cfg.Build, plain
	}
	if cfg.Code != "" {
		p.code, p.layout = cfg.Code, plain
		if !filepath.IsAbs(p.code) {
			p.code = filepath.Join(folder, p.code)
		}
	}
	if p.Runtime == "" {
		return Project{}, errors.New("cannot tell what " + cfg.Folder + " holds: say it with --runtime and --handler. " + recognised)
	}
	if p.Handler == "" {
		return Project{}, fmt.Errorf("cannot find a handler for %s in %s: say it with --handler", p.Runtime, cfg.Folder)
	}
	return p, nil
}

const recognised = "Recognised are go.mod with a main package, bootstrap, package.json or index.js (.mjs, .cjs), lambda_function.py, " +
	"app.py or requirements.txt, lambda_function.rb or Gemfile, pom.xml, build.gradle and .jar"

// functionName makes a name that Lambda takes out of a folder's.
func functionName(folder string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, folder)
	if name = strings.Trim(name, "-"); name == "" {
		return "function"
	}
	return name[:min(len(name), 64)]
}

// detector looks into a folder.
type detector struct {
	folder    string
	installed []string
}

// detect tries one language after the other; want is the runtime that is asked
// for, which leaves one of them.
func (d *detector) detect(want, handler string) (Project, error) {
	family := runtimes.Family("")
	if want != "" {
		r, known := runtimes.Lookup(want)
		if !known {
			return Project{}, fmt.Errorf("unknown runtime %q", want)
		}
		family = r.Family
	}
	var found []Project
	for _, l := range d.languages() {
		if family != "" && l.family != family {
			continue
		}
		p, ok, err := l.look()
		if err != nil {
			return Project{}, err
		}
		if !ok {
			continue
		}
		if p.Runtime == "" {
			p.Runtime = d.choose(l.family, d.version(l.family))
		}
		found = append(found, p)
	}
	if handler == "" && len(found) > 1 { // a package.json for tools beside a Python function, say
		if sure := slices.DeleteFunc(slices.Clone(found), func(p Project) bool { return p.Handler == "" }); len(sure) > 0 {
			found = sure
		}
	}
	switch len(found) {
	case 0:
		return Project{Handler: handlerless(family)}, nil
	case 1:
		return found[0], nil
	}
	return Project{}, fmt.Errorf("this folder could be for %s or for %s: choose with --runtime", found[0].Runtime, found[1].Runtime)
}

// handlerless is the handler of runtimes that have none.
func handlerless(family runtimes.Family) string {
	if family == runtimes.Provided {
		return bootstrap
	}
	return ""
}

const bootstrap = "bootstrap"

// language is one kind of folder.
type language struct {
	family runtimes.Family
	look   func() (p Project, found bool, err error)
}

func (d *detector) languages() []language {
	return []language{
		{runtimes.Provided, d.provided},
		{runtimes.Python, d.python},
		{runtimes.Nodejs, d.node},
		{runtimes.Ruby, d.ruby},
		{runtimes.Java, d.java},
	}
}

const custom = "provided.al2023"

// provided finds a bootstrap, or the program that makes one. The program goes
// first: the bootstrap beside it is what an older build has left.
func (d *detector) provided() (Project, bool, error) {
	if d.has("go.mod") {
		main, err := d.mainPackage()
		if err != nil {
			return Project{}, false, err
		}
		if main {
			return Project{Runtime: custom, Handler: bootstrap, layout: golang, Build: goBuild}, true, nil
		}
	}
	if d.has(bootstrap) {
		return Project{Runtime: custom, Handler: bootstrap}, true, nil
	}
	if d.has("go.mod") {
		return Project{}, false, errors.New("the folder has a go.mod but no package main: give the folder of the program that is the function")
	}
	return Project{}, false, nil
}

var mainClause = regexp.MustCompile(`(?m)^package main\b`)

func (d *detector) mainPackage() (bool, error) {
	files, err := filepath.Glob(filepath.Join(escapeGlob(d.folder), "*.go"))
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") && mainClause.MatchString(d.read(filepath.Base(file))) {
			return true, nil
		}
	}
	return false, err
}

// escapeGlob keeps a path from being a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// goBuild makes a program as functions on AWS want it: for Linux, static, and
// without the remote calls of the old runtime for Go.
const goBuild = `GOOS=linux CGO_ENABLED="${CGO_ENABLED:-0}" go build -tags lambda.norpc -o "$FIRN_BUILD/bootstrap" .`

var pythonFunction = regexp.MustCompile(`(?m)^(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*\(`)

func (d *detector) python() (Project, bool, error) {
	p := Project{Handler: d.scripted([]string{"lambda_function", "app", "main", "handler", "index"}, []string{".py"}, pythonFunction)}
	return p, p.Handler != "" || d.has("requirements.txt") || d.has("pyproject.toml"), nil
}

var nodeFunction = regexp.MustCompile(`(?m)\bexports\.(\w+)\s*=|^\s*export\s+(?:const|let|var|(?:async\s+)?function\*?)\s+(\w+)`)

func (d *detector) node() (Project, bool, error) {
	names := []string{"index", "app", "main", "handler", "lambda"}
	if pkg := d.read("package.json"); pkg != "" {
		var manifest struct{ Main string }
		if err := json.Unmarshal([]byte(pkg), &manifest); err != nil {
			return Project{}, false, fmt.Errorf("package.json: %w", err)
		}
		if main := filepath.ToSlash(filepath.Clean(manifest.Main)); manifest.Main != "" && filepath.IsLocal(main) {
			names = append([]string{strings.TrimSuffix(main, filepath.Ext(main))}, names...)
		}
	}
	p := Project{Handler: d.scripted(names, []string{".mjs", ".js", ".cjs"}, nodeFunction)}
	return p, p.Handler != "" || d.has("package.json"), nil
}

var rubyFunction = regexp.MustCompile(`(?m)^[ \t]*def[ \t]+(?:self\.)?(\w+)`)

func (d *detector) ruby() (Project, bool, error) {
	p := Project{Handler: d.scripted([]string{"lambda_function", "app", "main", "handler", "function"}, []string{".rb"}, rubyFunction)}
	return p, p.Handler != "" || d.has("Gemfile"), nil
}

// scripted finds FILE.FUNCTION: the first file of those names that defines a
// handler, by its usual names or as its only function.
func (d *detector) scripted(files, extensions []string, function *regexp.Regexp) string {
	for _, file := range files {
		for _, ext := range extensions {
			var names []string
			for _, m := range function.FindAllStringSubmatch(d.read(file+ext), -1) {
				names = append(names, cmp.Or(m[1:]...))
			}
			for _, usual := range []string{"lambda_handler", "handler", "lambdaHandler", "main"} {
				if slices.Contains(names, usual) {
					return file + "." + usual
				}
			}
			if len(names) == 1 {
				return file + "." + names[0]
			}
		}
	}
	return ""
}

const mavenBuild = "mvn -q compile dependency:copy-dependencies -DincludeScope=runtime"

func (d *detector) java() (Project, bool, error) {
	p := Project{}
	jars, err := filepath.Glob(filepath.Join(escapeGlob(d.folder), "*.jar"))
	switch {
	case err != nil:
		return p, false, err
	case d.has("pom.xml"):
		p.layout, p.Build = maven, mavenBuild
	case len(jars) > 0 || d.has("build.gradle") || d.has("build.gradle.kts"):
		p.layout = jar
	default:
		return p, false, nil
	}
	p.Handler, err = d.javaHandler()
	return p, true, err
}

var (
	javaPackage = regexp.MustCompile(`(?m)^\s*package\s+([\w.]+)\s*;`)
	javaClass   = regexp.MustCompile(`\bclass\s+(\w+)[^{]*\bimplements\b[^{]*\bRequest(?:Stream)?Handler\b`)
)

// javaHandler looks for the one class that implements a handler's interface.
func (d *detector) javaHandler() (string, error) {
	var found []string
	root := filepath.Join(d.folder, "src", "main", "java")
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(file) != ".java" || len(found) > 1 {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if class := javaClass.FindSubmatch(text); class != nil {
			name := string(class[1])
			if pkg := javaPackage.FindSubmatch(text); pkg != nil {
				name = string(pkg[1]) + "." + name
			}
			found = append(found, name+"::handleRequest")
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if len(found) != 1 {
		return "", err
	}
	return found[0], err
}

func (d *detector) has(name string) bool {
	info, err := os.Stat(filepath.Join(d.folder, name))
	return err == nil && info.Mode().IsRegular()
}

// maxLook bounds what is read of a file to look for a handler.
const maxLook = 4 << 20

// read returns a file's text, or "".
func (d *detector) read(name string) string {
	file := filepath.Join(d.folder, name)
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() || info.Size() > maxLook {
		return ""
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return string(text)
}

// FunctionName is the name that Run gives to the function of a folder.
func FunctionName(folder, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	folder, err := filepath.Abs(folder)
	if err == nil {
		folder, err = filepath.EvalSymlinks(folder)
	}
	return functionName(filepath.Base(folder)), err
}
