package archtest

import (
	"go/ast"
	"go/token"
	"os"
	"strings"
	"testing"
)

// The budgets: what the best-read Go trees converge to.
const (
	maxFileLines     = 800
	maxFunctionLines = 100
	maxParameters    = 5 // receiver and context aside
	maxInterface     = 5
	maxInternal      = 10
	minDocumented    = 0.95
	maxRequirements  = 40
	maxPackageLines  = 4000
)

// exempt are the exceptions, each with its reason.
func exempt() map[string]string {
	return map[string]string{
		"internal/sandbox.Sandbox": "the whole box: split, it would only be put together again by every caller",
		"cmd/firn.version":         "set by the linker",
		"internal/control":         "one type serves the operations on functions: they share locks, records and one commit; what is pure is in packages below it",
	}
}

func TestSizes(t *testing.T) {
	packages := map[string]int{}
	for _, src := range tree(t) {
		lines := strings.Count(src.text, "\n")
		if src.test || src.gen || testOnly(src.pkg) {
			continue
		}
		packages[src.pkg] += lines
		if lines > maxFileLines {
			t.Errorf("%s has %d lines, over %d: is there a second idea in it?", src.path, lines, maxFileLines)
		}
		for _, decl := range src.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := src.lines(fn); n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, over %d", src.path, fn.Name.Name, n, maxFunctionLines)
			}
			if n := parameters(fn); n > maxParameters {
				t.Errorf("%s: %s takes %d parameters, over %d: make them a struct", src.path, fn.Name.Name, n, maxParameters)
			}
		}
	}
	for pkg, lines := range packages {
		if lines > maxPackageLines && exempt()[pkg] == "" {
			t.Errorf("package %s has %d lines, over %d", pkg, lines, maxPackageLines)
		}
	}
}

// parameters counts them, without a context.
func parameters(fn *ast.FuncDecl) int {
	n := 0
	for _, field := range fn.Type.Params.List {
		if sel, ok := field.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Context" {
			continue
		}
		n += max(1, len(field.Names))
	}
	return n
}

func TestInterfacesAreSmall(t *testing.T) {
	for _, src := range tree(t) {
		if src.test {
			continue
		}
		ast.Inspect(src.ast, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if iface, ok := spec.Type.(*ast.InterfaceType); ok && len(iface.Methods.List) > maxInterface && exempt()[src.pkg+"."+spec.Name.Name] == "" {
				t.Errorf("%s: interface %s has %d methods, over %d", src.path, spec.Name.Name, len(iface.Methods.List), maxInterface)
			}
			return true
		})
	}
}

func TestPackageFanOut(t *testing.T) {
	fan := map[string]map[string]bool{}
	for _, src := range tree(t) {
		if src.test {
			continue
		}
		for _, imp := range src.imports() {
			if pkg, ok := local(imp); ok && pkg != "" {
				if fan[src.pkg] == nil {
					fan[src.pkg] = map[string]bool{}
				}
				fan[src.pkg][pkg] = true
			}
		}
	}
	for pkg, imports := range fan {
		// The server puts everything together, and the program has a file for
		// each command, with what that needs.
		if len(imports) > maxInternal && pkg != "internal/server" && pkg != "cmd/firn" {
			t.Errorf("package %s imports %d packages of ours, over %d", pkg, len(imports), maxInternal)
		}
	}
}

func TestPackageNames(t *testing.T) {
	for _, src := range tree(t) {
		switch src.ast.Name.Name {
		case "util", "utils", "common", "helpers", "base", "types", "models", "misc":
			t.Errorf("%s: a package called %s says nothing", src.path, src.ast.Name.Name)
		}
	}
}

func TestDocumentation(t *testing.T) {
	hasDoc := map[string]bool{}
	exported, documented := 0, 0
	var missing []string
	for _, src := range tree(t) {
		if src.test || src.gen {
			continue
		}
		hasDoc[src.pkg] = hasDoc[src.pkg] || src.ast.Doc != nil
		for _, decl := range src.ast.Decls {
			for name, doc := range exportedNames(decl) {
				exported++
				if doc {
					documented++
				} else {
					missing = append(missing, src.path+": "+name)
				}
			}
		}
	}
	for pkg, ok := range hasDoc {
		if !ok {
			t.Errorf("package %q has no package comment", pkg)
		}
	}
	if share := float64(documented) / float64(exported); share < minDocumented {
		t.Errorf("%.1f%% of %d exported names have a comment, want %.0f%%; without one:\n%s", share*100, exported, minDocumented*100, strings.Join(missing, "\n"))
	}
}

// exportedNames maps each exported name of a declaration to whether it has a
// comment, its own or that of its group.
func exportedNames(decl ast.Decl) map[string]bool {
	names := map[string]bool{}
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && exportedReceiver(d) {
			names[d.Name.Name] = d.Doc != nil
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					names[s.Name.Name] = d.Doc != nil || s.Doc != nil || s.Comment != nil
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() {
						names[name.Name] = d.Doc != nil || s.Doc != nil || s.Comment != nil
					}
				}
			}
		}
	}
	return names
}

func exportedReceiver(fn *ast.FuncDecl) bool {
	if fn.Recv == nil {
		return true
	}
	typ := fn.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	ident, ok := typ.(*ast.Ident)
	return ok && ident.IsExported()
}

func TestNoHiddenState(t *testing.T) {
	for _, src := range tree(t) {
		if src.test || src.gen {
			continue
		}
		for _, decl := range src.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.Name == "init" && d.Recv == nil {
					t.Errorf("%s: init functions run behind the reader's back", src.path)
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				for _, spec := range d.Specs {
					checkVariable(t, src, d, spec.(*ast.ValueSpec))
				}
			}
		}
	}
}

// checkVariable accepts package variables that nobody changes: interface
// guards, sentinel errors, compiled patterns and embedded files.
func checkVariable(t *testing.T, src *source, decl *ast.GenDecl, spec *ast.ValueSpec) {
	if decl.Doc != nil && strings.Contains(decl.Doc.Text(), "go:embed") || spec.Names[0].Name == "_" {
		return
	}
	for _, group := range []*ast.CommentGroup{decl.Doc, spec.Doc} {
		if group == nil {
			continue
		}
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:embed") {
				return
			}
		}
	}
	for i, name := range spec.Names {
		if exempt()[src.pkg+"."+name.Name] != "" {
			continue
		}
		if i < len(spec.Values) && constantLike(spec.Values[i]) {
			continue
		}
		t.Errorf("%s: package variable %s: state belongs into values", src.path, name.Name)
	}
}

func constantLike(value ast.Expr) bool {
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	if !ok {
		return false
	}
	switch pkg.Name + "." + sel.Sel.Name {
	case "errors.New", "fmt.Errorf", "regexp.MustCompile", "netip.MustParsePrefix", "netip.MustParseAddr":
		return true
	}
	return false
}

func TestNoSleep(t *testing.T) {
	for _, src := range tree(t) {
		if under(src.pkg, "bench") || under(src.pkg, "examples") || src.pkg == "internal/archtest" {
			continue
		}
		if strings.Contains(src.text, "time.Sleep(") && !strings.Contains(src.text, "archtest:sleep ") {
			t.Errorf("%s sleeps: synchronise on an event, or say why with a comment «archtest:sleep REASON»", src.path)
		}
	}
}

func TestRequirements(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	direct := 0
	for line := range strings.SplitSeq(string(mod), "\n") {
		if strings.HasPrefix(line, "\t") && !strings.Contains(line, "// indirect") {
			direct++
		}
		if strings.HasPrefix(line, "replace") {
			t.Errorf("go.mod replaces a module: %s", line)
		}
	}
	if direct > maxRequirements {
		t.Errorf("%d direct requirements, over %d", direct, maxRequirements)
	}
}
