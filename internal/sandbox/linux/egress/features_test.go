//go:build linux

package egress_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/egress"
	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

func TestFeaturesSayWhatIsMissingAndWhatToDo(t *testing.T) {
	list := egress.Features()
	if len(list) != 2 {
		t.Fatalf("%d features", len(list))
	}
	for _, f := range list {
		if f.Name == "" || f.Detail == "" || f.OK != (f.Fix == "") || f.Needed {
			t.Errorf("feature %+v: wants a name, a detail, and a fix exactly when it is missing", f)
		}
	}
	fd, err := unix.Open(tun.DevicePath, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	if list[0].OK != (err == nil) {
		t.Errorf("%+v, but opening says %v", list[0], err)
	}
}
