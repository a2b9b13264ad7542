package sandbox

import "golang.org/x/sys/unix"

// ioctlBytesReadable is FIONREAD, which Linux also calls TIOCINQ.
const ioctlBytesReadable = unix.TIOCINQ
