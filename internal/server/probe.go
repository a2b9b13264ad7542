package server

import "github.com/firn-run/firn/internal/sandbox"

// HostReport is what `firn doctor` found.
type HostReport struct {
	Features []sandbox.Feature `json:"features"`
	Sandbox  string            `json:"sandbox"` // that firn up would use
	Why      string            `json:"why"`
}
