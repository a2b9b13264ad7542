package state_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/firn-run/firn/internal/state"
	"github.com/firn-run/firn/internal/state/statetest"
)

const envHold = "FIRN_STATE_TEST_HOLD"

// TestMain lets the test binary play other processes: those that the
// conformance suite kills, one that holds a data directory, and one whose
// disk is full.
func TestMain(m *testing.M) {
	if dir := os.Getenv(envHold); dir != "" {
		if _, err := state.OpenDir(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		_, _ = io.Copy(io.Discard, bufio.NewReader(os.Stdin)) // until the parent is done or gone
		os.Exit(0)
	}
	if dir := os.Getenv(envDiskFull); dir != "" {
		os.Exit(diskFullChild(dir))
	}
	os.Exit(statetest.Main(m, statetest.SQLite))
}

func TestConformance(t *testing.T) { statetest.Run(t, statetest.SQLite) }
