package e2e

import (
	"archive/zip"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTour runs README's five-minute tour as it is printed, in a copy of the
// project, with each generation of the AWS CLI.
func TestTour(t *testing.T) {
	clients := clientsDir(t)
	script := tour(t)
	for name, cli := range map[string]string{
		"AWS CLI 1": filepath.Join(clients, "python", "bin", "aws"),
		"AWS CLI 2": "/usr/bin/aws",
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyProject(t)
			path := t.TempDir()
			if err := os.Symlink(cli, filepath.Join(path, "aws")); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PATH="+path+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+t.TempDir(), "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"))
			raw, err := cmd.CombinedOutput()
			out := string(raw)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{
				"START RequestId: ", `greeting "world" for hello`, "invocation 1 is ", "REPORT RequestId: ",
				`"greeting":"Hello, world!"`, "ResourceNotFoundException", "shutting down (spindown)",
				"answered", "Nothing that Lambda would object to was seen.", `firn_lambda_invocations_total{function="hello"`,
			} {
				if !strings.Contains(out, want) {
					t.Errorf("the tour does not show %q:\n%s", want, out)
				}
			}
		})
	}
}

// tour is the shell code of README's tour.
func tour(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(readme), "\n## Five-minute tour\n")
	if !found {
		t.Fatal("README has no section «Five-minute tour»")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var script strings.Builder
	for i, block := range strings.Split(section, "```") {
		if code, ok := strings.CutPrefix(block, "sh\n"); ok && i%2 == 1 {
			script.WriteString(code)
		}
	}
	return script.String()
}

// copyProject copies what git would commit into a folder of its own.
func copyProject(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list := exec.Command("git", "ls-files", "-co", "--exclude-standard")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSpace(name)
		content, err := os.ReadFile(filepath.Join("..", name))
		if os.IsNotExist(err) {
			continue // deleted, not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// zipFile makes an archive with one executable file.
func zipFile(t *testing.T, path, name, from string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := zip.NewWriter(file)
	header := &zip.FileHeader{Name: name, Method: zip.Deflate}
	header.SetMode(0o755)
	entry, err := w.CreateHeader(header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := entry.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
