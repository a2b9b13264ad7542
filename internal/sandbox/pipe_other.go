//go:build unix && !linux

package sandbox

// ioctlBytesReadable is FIONREAD of the BSD family: _IOR('f', 127, int).
const ioctlBytesReadable = 0x4004667f
