package dev

import (
	_ "embed"
	"os"
	"path/filepath"
)

// pythonHook is the folder of the code that holds what Python loads first, by
// way of PYTHONPATH, when there is to be a debugger.
const pythonHook = ".firn-debug"

//go:embed sitecustomize.py
var sitecustomize []byte

// writePythonHook puts the hook where a source finds it.
func writePythonHook(dir string) (source, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return source{}, err
	}
	err := os.WriteFile(filepath.Join(dir, "sitecustomize.py"), sitecustomize, 0o644)
	return source{from: dir, to: pythonHook, skip: func(string, string) bool { return false }}, err
}
