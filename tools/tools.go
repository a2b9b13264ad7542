//go:build tools

// Package tools pins the programs that the checks use, apart from firn's own
// requirements.
package tools

import _ "honnef.co/go/tools/cmd/staticcheck"
