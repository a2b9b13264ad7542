//go:build !linux

package runtimeapi

import "net"

// acknowledge does nothing: only Linux has the option.
func acknowledge(net.Conn) {}
