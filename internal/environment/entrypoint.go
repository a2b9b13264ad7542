package environment

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/firn-run/firn/internal/sandbox"
)

// noEntrypointError says that there is nothing to start, in the words of
// Lambda.
type noEntrypointError struct{ message string }

func (e *noEntrypointError) Error() string { return e.message }

func noBootstrap(searched []string) error {
	return &noEntrypointError{"Couldn't find valid bootstrap(s): [" + strings.Join(searched, " ") + "]"}
}

// startRuntime executes the runtime: the start command of a managed one, the
// first bootstrap of those that functions bring along, or what an image names.
func (e *Environment) startRuntime(ctx context.Context, out *outputs) (sandbox.Process, error) {
	paths := e.box.Paths()
	cmd := sandbox.Command{Env: e.runtimeVariables(), Dir: paths.Task, Stdout: out.std, Stderr: out.std}
	if out.frames != nil {
		cmd.Extra = []*os.File{out.frames} // descriptor logFD
	}
	searched := []string{path.Join(paths.Task, "bootstrap"), path.Join(paths.Opt, "bootstrap")}
	switch img := e.cfg.Version.Image; {
	case img != nil:
		cmd.Dir = img.WorkingDir
		if cmd.Dir == "" {
			cmd.Dir = "/"
		}
		if argv := slices.Concat(img.Entrypoint, img.Command); len(argv) > 0 {
			return e.startEntrypoint(ctx, cmd, argv)
		}
		searched = append(searched, path.Join(paths.Runtime, "bootstrap"))
	case e.managed():
		searched = []string{path.Join(paths.Runtime, "bootstrap")}
	}
	for _, file := range searched {
		cmd.Path, cmd.Args = file, []string{file}
		p, err := e.box.Start(ctx, cmd)
		if !e.missing(file, err) {
			return p, err
		}
	}
	return nil, noBootstrap(searched)
}

// missing says that the program does not exist. A script whose interpreter
// does not exist gives the same errno, so that the file itself is looked at
// where it is known.
func (e *Environment) missing(file string, err error) bool {
	se, ok := errors.AsType[*sandbox.StartError](err)
	if !ok || se.BadDir || !errors.Is(se.Err, syscall.ENOENT) {
		return false
	}
	paths := e.box.Paths()
	known := []struct{ inside, host string }{{paths.Task, e.cfg.TaskDir}, {paths.Opt, e.cfg.OptDir}}
	if e.cfg.RuntimeDir != "" {
		known = append(known, struct{ inside, host string }{paths.Runtime, filepath.Join(e.cfg.RuntimeDir, "var/runtime")})
	}
	for _, d := range known {
		if rest, ok := strings.CutPrefix(file, d.inside+"/"); ok && d.host != "" {
			_, err := os.Lstat(filepath.Join(d.host, rest))
			return errors.Is(err, fs.ErrNotExist)
		}
	}
	return true
}

// startEntrypoint executes the command line of an image. A program without a
// slash is looked for in PATH, as execvp does: the first that can be executed
// counts, and one that may not be is remembered as the reason.
func (e *Environment) startEntrypoint(ctx context.Context, cmd sandbox.Command, argv []string) (sandbox.Process, error) {
	cmd.Args = argv
	if strings.Contains(argv[0], "/") {
		cmd.Path = argv[0]
		if !path.IsAbs(cmd.Path) {
			cmd.Path = path.Join(cmd.Dir, cmd.Path)
		}
		return e.box.Start(ctx, cmd)
	}
	var denied error
	for _, dir := range strings.Split(variable(cmd.Env, "PATH"), ":") {
		if argv[0] == "" || !path.IsAbs(dir) {
			continue // the current directory is no place to look in
		}
		cmd.Path = path.Join(dir, argv[0])
		p, err := e.box.Start(ctx, cmd)
		se, ok := errors.AsType[*sandbox.StartError](err)
		switch {
		case !ok || se.BadDir:
			return p, err
		case errors.Is(se.Err, syscall.ENOENT) || errors.Is(se.Err, syscall.ENOTDIR):
		case errors.Is(se.Err, syscall.EACCES):
			denied = err
		default:
			return p, err
		}
	}
	if denied != nil {
		return nil, denied
	}
	return nil, &noEntrypointError{`exec: "` + argv[0] + `": executable file not found in $PATH`}
}

// variable reads one of KEY=VALUE.
func variable(env []string, name string) string {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// disableExtensions is the file in /opt that switches extensions off. AWS's
// emulator has it, name and all.
const disableExtensions = "disable-extensions-jwigqn8j"

// listExtensions lists the external extensions by name: what lies directly in
// the directory extensions of the layers, or of the image's /opt when there
// are no layers, and is not itself a directory. Whether it can be executed is
// seen at its launch.
func listExtensions(optDir, rootDir string) (names []string, disabled bool, err error) {
	base, stands := optDir, optRoot
	if optDir == "" {
		if rootDir == "" {
			return nil, false, nil
		}
		base, stands = rootDir, "/"
	}
	// Layers and images may have links anywhere; none leads out of them.
	dir, err := os.OpenRoot(base)
	if err != nil {
		return nil, false, err
	}
	defer dir.Close()
	root := inside{dir, stands}
	if file, err := root.follow(path.Join(optRoot, disableExtensions)); err == nil {
		if _, err := dir.Lstat(file); err == nil {
			return nil, true, nil
		}
	}
	extensions, err := root.follow(path.Join(optRoot, "extensions"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	entries, err := fs.ReadDir(dir.FS(), extensions)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	for _, entry := range entries { // sorted by name
		if !entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, false, nil
}

// maxLinks bounds the links on one path, as the kernel does.
const maxLinks = 40

// inside is a host directory that processes inside see as the directory at.
type inside struct {
	dir *os.Root
	at  string
}

// follow resolves the symbolic links of an absolute path as processes inside
// see it, and returns it relative to the directory. What does not exist stays
// in the path; what is not in the directory does not exist.
func (r inside) follow(name string) (string, error) {
	rest, err := r.relative(name)
	if err != nil {
		return "", err
	}
	done := "."
	for links := 0; len(rest) > 0; {
		next := path.Join(done, rest[0])
		rest = rest[1:]
		if !fs.ValidPath(next) { // ".." above the directory
			if r.at == "/" {
				continue // is the directory
			}
			return "", fs.ErrNotExist
		}
		target, err := r.dir.Readlink(next)
		if err != nil {
			done = next // no link, or not there
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "readlink", Path: name, Err: syscall.ELOOP}
		}
		parts := split(target)
		if path.IsAbs(target) {
			done = "."
			if parts, err = r.relative(target); err != nil {
				return "", err
			}
		}
		rest = append(parts, rest...)
	}
	return done, nil
}

// relative are the parts of an absolute path below the directory.
func (r inside) relative(name string) ([]string, error) {
	name = path.Clean(name)
	if r.at == "/" {
		return split(name), nil
	}
	rest, ok := strings.CutPrefix(name, r.at)
	if !ok || rest != "" && rest[0] != '/' {
		return nil, fs.ErrNotExist
	}
	return split(rest), nil
}

func split(name string) []string {
	return strings.FieldsFunc(name, func(c rune) bool { return c == '/' })
}
