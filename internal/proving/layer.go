package proving

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// layerArchive makes the layer of what path names: an executable file, a
// folder with extensions/ in it, or a layer's archive. names are the external
// extensions in it.
func layerArchive(file string) (archive []byte, names []string, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case info.IsDir():
		archive, err = zipFolder(file)
	case strings.EqualFold(filepath.Ext(file), ".zip"):
		archive, err = os.ReadFile(file)
	default:
		archive, err = zipFile(path.Join(extensions, filepath.Base(file)), file)
	}
	if err != nil {
		return nil, nil, err
	}
	names, err = extensionNames(archive)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s holds no extension: give an executable file, or a folder or a .zip archive with files directly in %s/", file, extensions)
	}
	return archive, names, err
}

// extensions is the folder of a layer whose files are started.
const extensions = "extensions"

func extensionNames(archive []byte) ([]string, error) {
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, fmt.Errorf("read the layer's archive: %w", err)
	}
	var names []string
	for _, f := range r.File {
		if dir, name := path.Split(f.Name); path.Clean(dir) == extensions && name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

func zipFile(name, file string) ([]byte, error) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	if err := addFile(w, name, file, zip.Deflate); err != nil {
		return nil, err
	}
	err := w.Close()
	return buf.Bytes(), err
}

func zipFolder(dir string) ([]byte, error) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return errors.New(file + " is not a regular file")
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return addFile(w, filepath.ToSlash(name), file, zip.Deflate)
	})
	if err != nil {
		return nil, err
	}
	err = w.Close()
	return buf.Bytes(), err
}

// addFile adds a file with the mode that it has on disk: an extension that is
// not executable fails here as on AWS.
func addFile(w *zip.Writer, name, file string, method uint16) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	header := &zip.FileHeader{Name: name, Method: method}
	header.SetMode(info.Mode().Perm())
	f, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return err
}
