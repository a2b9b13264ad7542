package guest_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox/linux/guest"
)

func TestGuest(t *testing.T) {
	guest.Require(t)
	for _, kernel := range guest.Kernels() {
		t.Run(filepath.Base(kernel), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var out bytes.Buffer
			res := guest.Run(ctx, t, guest.Config{
				Kernel: kernel,
				Files:  map[string]string{"/root/hello.txt": "testdata/hello.txt"},
				Env:    []string{"GREETING=good morning"},
				Command: []string{"/bin/sh", "-c", `cat hello.txt; echo "$GREETING"; uname -r; cat /sys/fs/cgroup/cgroup.controllers
					stat -f -c %T /; ls -d /sys/class/misc/tun; grep -w overlay /proc/filesystems; grep -c . /proc/net/dev; ls /lib/modules; exit 7`},
				Output: &out,
			})
			t.Logf("boot %v, total %v\n%s", res.Boot, res.Total, out.Bytes())
			if res.Code != 7 {
				t.Errorf("exit status %d", res.Code)
			}
			if strings.Contains(out.String(), "guestinit:") {
				t.Error("the init has something to complain about")
			}
			for _, want := range []string{"a file of the host\n", "good morning\n", "memory", "pids", "tmpfs\n", "/sys/class/misc/tun\n", "overlay\n", "erofs.ko"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output lacks %q", want)
				}
			}
		})
	}
}
