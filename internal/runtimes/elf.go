package runtimes

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// relocate makes the programs and libraries of a tree find each other where
// the tree is, and not where the host had them: a search path that leads below
// one of the prefixes is replaced by one that is relative to the file. The new
// path takes the place of the old one in the file; where it is too long for
// that, the file is left as it is and LD_LIBRARY_PATH has to do.
func relocate(root, lib string, prefixes []string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		to, err := filepath.Rel(filepath.Dir(path), lib)
		if err != nil {
			return err
		}
		origin := "$ORIGIN"
		if to != "." {
			origin += "/" + to
		}
		if err := patchRunPath(path, origin, prefixes); err != nil {
			return fmt.Errorf("relocate %s: %w", path, err)
		}
		return nil
	})
}

// patchRunPath replaces the run path of one file, if it is an ELF file and has
// one below the prefixes.
func patchRunPath(path, origin string, prefixes []string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil || !bytes.Equal(magic, []byte(elf.ELFMAG)) {
		return nil
	}
	file, err := elf.NewFile(f)
	if _, malformed := errors.AsType[*elf.FormatError](err); malformed {
		return nil // data of a test, say
	}
	if err != nil {
		return err
	}
	strtab := file.Section(".dynstr")
	if strtab == nil || strtab.Type == elf.SHT_NOBITS {
		return nil
	}
	names, err := strtab.Data()
	if err != nil {
		return err
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		offsets, err := file.DynValue(tag)
		if err != nil {
			continue // no dynamic section
		}
		for _, offset := range offsets {
			if offset >= uint64(len(names)) {
				continue
			}
			value, _, _ := bytes.Cut(names[offset:], []byte{0})
			if len(origin) > len(value) || !leadsBelow(string(value), prefixes) {
				continue
			}
			fresh := make([]byte, len(value)) // the rest is zero
			copy(fresh, origin)
			if _, err := f.WriteAt(fresh, int64(strtab.Offset+offset)); err != nil {
				return err
			}
		}
	}
	return nil
}

func leadsBelow(runPath string, prefixes []string) bool {
	for part := range strings.SplitSeq(runPath, ":") {
		for _, prefix := range prefixes {
			if below(filepath.Clean(part), prefix) {
				return true
			}
		}
	}
	return false
}
