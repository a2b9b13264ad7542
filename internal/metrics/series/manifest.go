package series

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const manifestName = "manifest"

// manifest says which blocks and journals are in force. It is one line with
// the CRC-32C of the rest, which is JSON.
type manifest struct {
	NextFile     uint64      `json:"nextFile"`
	FirstJournal uint64      `json:"firstJournal"`
	Blocks       []described `json:"blocks"`
}

// managed says that a file is one that the DB makes and may remove.
func managed(name string) bool {
	return strings.HasPrefix(name, "journal-") || strings.HasPrefix(name, "block-") || name == manifestName+".new"
}

func readManifest(dir string) (manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return manifest{NextFile: 1, FirstJournal: 1}, nil
	}
	if err != nil {
		return manifest{}, err
	}
	head, body, _ := strings.Cut(string(b), "\n")
	var m manifest
	if head != fmt.Sprintf("%08x", crc32.Checksum([]byte(body), castagnoli())) || json.Unmarshal([]byte(body), &m) != nil {
		return manifest{}, fmt.Errorf("%s is damaged: restore it, or remove the directory to begin anew: %w", filepath.Join(dir, manifestName), errCorrupt)
	}
	return m, nil
}

// write puts the manifest in force: the moment at which blocks and journals
// change hands. named says that it is, even if an error follows.
func (m manifest) write(dir string) (named bool, err error) {
	body, err := json.Marshal(m)
	if err != nil {
		return false, err
	}
	temp := filepath.Join(dir, manifestName+".new")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false, err
	}
	_, err = fmt.Fprintf(f, "%08x\n%s", crc32.Checksum(body, castagnoli()), body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	if err := os.Rename(temp, filepath.Join(dir, manifestName)); err != nil {
		return false, err
	}
	return true, syncDir(dir)
}
