// Package initproto is the wire format between firn, the spawner and the init
// process of a sandbox (both of which are the program firn-init).
//
// Transport is a Unix SOCK_SEQPACKET socket, so that a message is a packet
// and descriptors travel with the message they belong to. A packet is
//
//	kind uint8 | seq uint32, little endian | fields in order of declaration
//
// where an integer is an unsigned varint, a string is its length and bytes, a
// list is its length and elements, and a bool is one byte. An answer carries
// the seq of its request; messages that answer nothing carry 0. Whoever
// cannot do what was asked answers [Failure].
//
//	firn -> spawner   Template  fds: one for each Mount, then OK
//	firn -> spawner   Spawn     fds: control socket of the init, [cgroup2 directory], ...
//	spawner -> firn   Spawned   fds: pidfd of the init, [copy of the template]
//	firn -> init      Setup     fds: [copy of the template], one for each Mount with FD set, in order
//	init -> firn      Ready     fds: the listener on 127.0.0.1:9001, [TUN device]
//	firn -> init      Settle                   no answer
//	firn -> init      Assign    fds: as for Setup
//	init -> firn      OK
//	firn -> init      Start     fds: [stdout], [stderr], descriptors 3, 4, ...
//	init -> firn      Started
//	firn -> init      Signal, SignalAll        no answer
//	firn -> init      Open
//	init -> firn      Opened    fds: the sockets
//	firn -> init      Reset, then OK; Measure, then Measured
//	firn -> init      Rest                     no answer of its seq
//	init -> firn      Exited, Rested           on their own
//
// A message over MaxMessage travels in a file, as Spilled.
//
// Closing the socket is the last message: spawner and init end themselves.
//
// The package is linked into firn-init, a thousand copies of which run on a
// machine, so it imports next to nothing: no fmt, no reflection. Both sides
// are of one build, so there is no version number; the decoders are strict
// all the same, because the init shares its address space with nobody but
// does share its machine with the function.
package initproto
