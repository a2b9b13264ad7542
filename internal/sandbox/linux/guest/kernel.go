package guest

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Kernels returns the kernels a guest can run, the newest first: the one in
// FIRN_GUEST_KERNEL alone, or all in the cache directory, or all cloud
// kernels in /boot.
func Kernels() []string {
	if k := os.Getenv("FIRN_GUEST_KERNEL"); k != "" {
		if _, err := os.Stat(k); err != nil {
			return nil
		}
		return []string{k}
	}
	for _, pattern := range []string{filepath.Join(cacheDir(), "boot/vmlinuz-*"), "/boot/vmlinuz-*cloud*"} {
		found, _ := filepath.Glob(pattern)
		if len(found) > 0 {
			slices.SortFunc(found, func(a, b string) int { return compareVersions(release(b), release(a)) })
			return found
		}
	}
	return nil
}

// cacheDir is where .ci/install-guest puts kernels.
func cacheDir() string {
	if d := os.Getenv("FIRN_GUEST_CACHE"); d != "" {
		return d
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "/nonexistent"
	}
	return filepath.Join(d, "firn-guest")
}

// release is the kernel's release as in its file name.
func release(kernel string) string {
	return strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
}

// compareVersions compares by numbers where both have them: 6.12 is above 6.1.
func compareVersions(a, b string) int {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	}
	return slices.CompareFunc(split(a), split(b), func(x, y string) int {
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		return strings.Compare(x, y)
	})
}

// wantedModules are what sandboxes use and cloud kernels have as modules.
func wantedModules() []string {
	return []string{"tun", "veth", "overlay", "erofs", "vsock", "nf_tables", "nft_chain_nat", "nft_masq", "nft_ct"}
}

// modules returns the files of the wanted modules and what they depend on, in
// the order of loading. A kernel without a modules directory, or with some of
// them built in, needs fewer. Compressed ones are unpacked into tmp.
func modules(ctx context.Context, kernel, tmp string) ([]string, error) {
	dir := filepath.Join(filepath.Dir(kernel), "../lib/modules", release(kernel))
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if plain := strings.TrimSuffix(path, ".xz"); err == nil && strings.HasSuffix(plain, ".ko") {
			files[moduleName(plain)] = path
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		path, ok := files[name]
		if !ok || seen[name] {
			return nil
		}
		seen[name] = true
		path, err := unpack(ctx, path, tmp)
		if err != nil {
			return err
		}
		deps, err := dependencies(path)
		if err != nil {
			return err
		}
		for _, d := range deps {
			if err := add(d); err != nil {
				return err
			}
		}
		out = append(out, path)
		return nil
	}
	for _, name := range wantedModules() {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// unpack returns path, or the file in tmp that it was unpacked to.
func unpack(ctx context.Context, path, tmp string) (string, error) {
	if !strings.HasSuffix(path, ".xz") {
		return path, nil
	}
	b, err := exec.CommandContext(ctx, "xz", "-dc", path).Output()
	if err != nil {
		return "", fmt.Errorf("guest: unpack %s: %w", path, err)
	}
	to := filepath.Join(tmp, strings.TrimSuffix(filepath.Base(path), ".xz"))
	return to, os.WriteFile(to, b, 0o600)
}

func moduleName(path string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".ko"), "-", "_")
}

// dependencies reads the names a module depends on from its own section of
// information: depmod's lists are made only when a package is installed.
func dependencies(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("guest: module: %w", err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, nil
	}
	b, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("guest: module %s: %w", path, err)
	}
	for field := range bytes.SplitSeq(b, []byte{0}) {
		if v, ok := bytes.CutPrefix(field, []byte("depends=")); ok && len(v) > 0 {
			return strings.Split(strings.ReplaceAll(string(v), "-", "_"), ","), nil
		}
	}
	return nil, nil
}

// makeInitrd writes the guest's root directory.
func makeInitrd(ctx context.Context, file string, cfg Config, mark string) error {
	initProgram, err := buildInit(ctx, filepath.Dir(file))
	if err != nil {
		return err
	}
	mods, err := modules(ctx, cfg.Kernel, filepath.Dir(file))
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	a := &archive{w: f}
	skeleton(a)
	if err := addFile(a, "/init", initProgram); err != nil {
		return err
	}
	if err := addBusybox(a); err != nil {
		return err
	}
	var inside []string
	for _, m := range mods {
		to := "/lib/modules/" + filepath.Base(m)
		if err := addFile(a, to, m); err != nil {
			return err
		}
		inside = append(inside, to)
	}
	for _, to := range slices.Sorted(maps.Keys(cfg.Files)) {
		if err := addFile(a, to, cfg.Files[to]); err != nil {
			return err
		}
	}
	job, err := json.Marshal(map[string]any{"Command": cfg.Command, "Env": cfg.Env, "Modules": inside, "Mark": mark})
	if err != nil {
		return err
	}
	a.text("/job.json", string(job))
	return a.close()
}

// skeleton makes what every system has.
func skeleton(a *archive) {
	for _, d := range []string{"/bin", "/sbin", "/dev", "/proc", "/sys", "/tmp", "/run", "/root", "/etc", "/lib", "/lib64",
		"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/usr/share", "/var/lib", "/var/tmp", "/mnt", "/opt"} {
		a.dir(d)
	}
	a.device("/dev/console", 5, 1)
	a.device("/dev/null", 1, 3)
	a.text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
	a.text("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
	a.text("/etc/hosts", "127.0.0.1 localhost guest\n")
	a.text("/etc/nsswitch.conf", "hosts: files\n")
}

func addFile(a *archive, to, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	a.file(to, fi.Mode(), fi.Size(), f)
	return a.err
}

// addBusybox gives the guest a shell where the host has a static busybox.
func addBusybox(a *archive) error {
	path, err := exec.LookPath("busybox")
	if err != nil || !static(path) {
		return nil
	}
	if err := addFile(a, "/bin/busybox", path); err != nil {
		return err
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		return fmt.Errorf("guest: busybox: %w", err)
	}
	for name := range strings.FieldsSeq(string(list)) {
		if name != "busybox" {
			a.symlink("/bin/"+name, "busybox")
		}
	}
	return nil
}

// static reports whether a program needs no loader.
func static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}
