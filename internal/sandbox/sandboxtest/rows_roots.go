package sandboxtest

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/firn-run/firn/internal/sandbox"
)

// publicDir is a directory that every user may enter.
func (r *rig) publicDir() string {
	r.Helper()
	dir, err := os.MkdirTemp("", "sandboxtest-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			r.Error(err)
		}
	})
	return dir
}

// put writes files below dir, by name.
func (r *rig) put(dir string, files map[string]string) {
	r.Helper()
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
			r.Fatal(err)
		}
	}
}

func runtimeDirectory(r *rig) {
	dir := r.publicDir()
	r.put(dir, map[string]string{"var/lang/file": "of the language", "var/runtime/file": "of the client", "secret": "of the host"})
	b := r.create(func(s *sandbox.Spec) { s.RuntimeDir = dir })
	agent, _ := b.serve("reader")
	for file, want := range map[string]string{b.Paths().Lang: "of the language", b.Paths().Runtime: "of the client"} {
		if got := agent.must(order{Do: "read", Text: filepath.Join(file, "file")}).Text; got != want {
			r.Errorf("%s/file: %q, want %q", file, got, want)
		}
	}
	if !r.cfg.Isolated {
		return
	}
	for _, file := range []string{"/var/lang/new", "/var/runtime/new", "/var/lang/file"} {
		if res := agent.ask(order{Do: "write", Text: file}); res.Err == "" {
			r.Errorf("%s was written", file)
		}
	}
	// A sandbox without a runtime has nothing of another's.
	plain, _ := r.create(nil).serve("plain")
	if res := plain.ask(order{Do: "read", Text: "/var/lang/file"}); syscall.Errno(res.Errno) != syscall.ENOENT {
		r.Errorf("/var/lang of another sandbox: %+v", res)
	}
}

func imageRoot(r *rig) {
	if r.cfg.RootDir != "" {
		r.Skip("the suite itself runs from an image")
	}
	root := r.publicDir()
	if !r.cfg.Isolated {
		_, err := r.backend.Create(r.context(), sandbox.Spec{ID: "image", RootDir: root, MemoryMB: 128, EphemeralStorageMB: 512})
		if !errors.Is(err, sandbox.ErrNoImages) {
			r.Errorf("%v, want ErrNoImages", err)
		}
		return
	}
	copyFile(r.T, filepath.Join(r.task, agentFile), filepath.Join(root, agentFile))
	r.putLibraries(root, filepath.Join(r.task, agentFile))
	r.put(root, map[string]string{
		"var/task/app": "of the image", "real/opt/layer": "of the image too", "var/lang/bin": "its language",
		"etc/hosts": "nobody", "etc/own": "its own", "tmp/left": "over",
	})
	if err := os.Symlink("real/opt", filepath.Join(root, "opt")); err != nil {
		r.Fatal(err)
	}
	b := r.create(func(s *sandbox.Spec) { s.RootDir, s.TaskDir, s.OptDir = root, "", "" })
	cmd := b.command("serve", b.APIAddr(), "image")
	cmd.Path, cmd.Args[0], cmd.Dir = "/"+agentFile, "/"+agentFile, "/"
	b.start(cmd)
	agent := b.expect("image")
	for file, want := range map[string]string{
		"/var/task/app": "of the image", "/opt/layer": "of the image too", "/var/lang/bin": "its language", "/etc/own": "its own",
	} {
		if got := agent.must(order{Do: "read", Text: file}).Text; got != want {
			r.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if got := agent.must(order{Do: "read", Text: "/etc/hosts"}).Text; !strings.Contains(got, "localhost") {
		r.Errorf("/etc/hosts: %q", got)
	}
	if res := agent.ask(order{Do: "read", Text: "/tmp/left"}); syscall.Errno(res.Errno) != syscall.ENOENT {
		r.Errorf("/tmp of the image: %+v", res)
	}
	agent.must(order{Do: "write", Text: "/tmp/file"})
	if res := agent.ask(order{Do: "write", Text: "/var/task/new"}); res.Err == "" {
		r.Error("the image was written to")
	}
}

// putLibraries copies what a dynamically linked program needs of the host into
// an image, to the same paths. A static one needs nothing.
func (r *rig) putLibraries(root, program string) {
	r.Helper()
	file, err := elf.Open(program)
	if err != nil {
		r.Fatal(err)
	}
	defer file.Close()
	needed, err := file.ImportedLibraries()
	if err != nil {
		return // static
	}
	for i, name := range needed {
		needed[i] = r.library(name)
	}
	if section := file.Section(".interp"); section != nil {
		text, err := section.Data()
		if err != nil {
			r.Fatal(err)
		}
		needed = append(needed, strings.TrimRight(string(text), "\x00"))
	}
	for _, path := range needed {
		to := filepath.Join(root, path)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			r.Fatal(err)
		}
		copyFile(r.T, path, to)
		r.putLibraries(root, path)
	}
}

// library finds a shared library where systems have them.
func (r *rig) library(name string) string {
	r.Helper()
	for _, dir := range []string{"/lib64", "/usr/lib64", "/lib/*-linux-gnu", "/usr/lib/*-linux-gnu", "/lib", "/usr/lib"} {
		if found, _ := filepath.Glob(filepath.Join(dir, name)); len(found) > 0 {
			return found[0]
		}
	}
	r.Fatalf("no library %s", name)
	return ""
}
