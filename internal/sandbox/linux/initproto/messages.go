package initproto

// Kind tells messages apart on the wire.
type Kind uint8

// The kinds of messages; see the package comment for who sends which.
const (
	KindFailure Kind = iota + 1
	KindOK
	KindSpawn
	KindSpawned
	KindSetup
	KindReady
	KindSettle
	KindAssign
	KindStart
	KindStarted
	KindSignal
	KindSignalAll
	KindReset
	KindMeasure
	KindMeasured
	KindExited
	KindSpilled
	KindRest
	KindRested // its number stands in firn-init's assembly too
	KindOpen
	KindOpened
	KindTemplate
)

// Message is one of the structs of this package, by pointer.
type Message interface {
	Kind() Kind
	encode(*encoder)
	decode(*decoder)
}

func newMessage(k Kind) Message {
	switch k {
	case KindFailure:
		return new(Failure)
	case KindOK:
		return new(OK)
	case KindSpawn:
		return new(Spawn)
	case KindSpawned:
		return new(Spawned)
	case KindSetup:
		return new(Setup)
	case KindReady:
		return new(Ready)
	case KindSettle:
		return new(Settle)
	case KindAssign:
		return new(Assign)
	case KindStart:
		return new(Start)
	case KindStarted:
		return new(Started)
	case KindSignal:
		return new(Signal)
	case KindSignalAll:
		return new(SignalAll)
	case KindReset:
		return new(Reset)
	case KindMeasure:
		return new(Measure)
	case KindMeasured:
		return new(Measured)
	case KindExited:
		return new(Exited)
	case KindSpilled:
		return new(Spilled)
	case KindRest:
		return new(Rest)
	case KindRested:
		return new(Rested)
	case KindOpen:
		return new(Open)
	case KindOpened:
		return new(Opened)
	case KindTemplate:
		return new(Template)
	}
	return nil
}

// Failure answers a request that could not be carried out.
type Failure struct {
	Step  string // what was being done, for people
	Errno uint32
}

// OK answers a request that has no other answer.
type OK struct{}

// IDMap is a line of a user namespace's uid_map or gid_map.
type IDMap struct{ Inside, Outside, Count uint32 }

// Spawn asks the spawner for a new init in namespaces of its own. Its control
// socket is the first descriptor; the second, with InCgroup, is the cgroup2
// directory to be born in. Then come the files "tasks" of Tasks groups of
// version 1 to be born in, and as many of the groups that the spawner goes
// back to.
type Spawn struct {
	UIDs, GIDs []IDMap
	// Unprivileged says that the spawner has no rights over other user ids:
	// setgroups is denied, and init gets its capabilities as ambient ones
	// because its user id inside is not 0.
	Unprivileged bool
	InCgroup     bool
	Tasks        uint32
	// Tree asks for a copy of the template.
	Tree bool
}

// Spawned answers Spawn; the first descriptor with it is a pidfd, the second,
// with Tree, the copy of the template: a detached mount whose owners are mapped
// for the init.
type Spawned struct {
	PID  uint32
	Tree bool
	// Entered says that init was born in all groups that Spawn named.
	Entered bool
}

// Template has the spawner of a firn that has all rights leave the host's files
// for good and build, from these mounts, which all come as descriptors, the
// root that sandboxes get copies of. A further one takes the place of the first.
// When it fails sandboxes are made without.
type Template struct {
	Mounts []Mount
	Links  []Link
}

// Mount puts a host directory or file into the sandbox, read-only.
type Mount struct {
	Dest   string // absolute, as seen inside
	Source string // host path; "" when FD is set
	FD     bool   // the mount comes as a detached mount's descriptor
	File   bool   // it is a file, not a directory
}

// Link is a symbolic link inside the sandbox.
type Link struct{ Path, Target string }

// Setup has init build everything that does not depend on the function.
type Setup struct {
	Mounts []Mount
	Links  []Link
	// Devices are the device nodes to mount.
	Devices []Mount
	// Tree says that the first descriptor is a copy of the template: the whole
	// root, but for /proc, /tmp and /dev/pts. There are no Mounts, Links and
	// Devices then.
	Tree bool
	// Base has the first of Mounts be the whole root directory; the sandbox's
	// own parts are laid over it.
	Base     bool
	Hostname string
	UID, GID uint32 // of the function's processes, as seen inside
	// SetIDs has init change to UID and GID before it executes a program;
	// otherwise it has them already.
	SetIDs bool
	// KeepHost leaves the host's files reachable for init (not for anybody
	// else: no process of the function exists yet) until Assign, so that
	// Assign can have Mounts with Source. For rootless use only.
	KeepHost bool
	// Processes is RLIMIT_NPROC; 0 leaves it.
	Processes uint32
	// TUN has init make the interface to the outside, where firn itself has no
	// rights over the network namespace (rootless).
	TUN bool
}

// Ready answers Setup.
type Ready struct{}

// Settle says that init is in its cgroups for good, and ends the set-up: what
// is left to do can be done while the sandbox waits. Filter is the assembled
// filter of system calls.
type Settle struct{ Filter string }

// Assign makes a blank sandbox that of one function, before its first Start.
type Assign struct {
	Mounts   []Mount
	TmpBytes uint64
}

// Start has init execute a program. Descriptors: stdout when Stdout, then
// stderr when Stderr (a missing one is /dev/null), then Extra that become 3,
// 4, ...
type Start struct {
	Path           string
	Args, Env      []string
	Dir            string
	Stdout, Stderr bool
	Extra          uint32
}

// Started answers Start. Errno is 0, or why the program was not executed.
type Started struct {
	PID    uint32 // as seen inside
	Errno  uint32
	BadDir bool // the working directory was at fault
}

// Signal sends a signal to a process that Started named. Nothing happens when
// it has ended already.
type Signal struct{ PID, Signal uint32 }

// SignalAll sends a signal to every process but init.
type SignalAll struct{ Signal uint32 }

// Reset kills every process but init and is answered, with OK, when they are
// gone and reaped.
type Reset struct{}

// Measure asks what all processes but init use.
type Measure struct{}

// Measured answers Measure: the sum of their proportional set sizes and swap,
// in bytes, their number, and the processor time that they and all before them
// used, in microseconds.
type Measured struct {
	Bytes     uint64
	Processes uint32
	CPUTime   uint64
}

// Exited says that a process of Start ended. Status is a wait status.
type Exited struct{ PID, Status uint32 }

// Spilled stands for a message that does not fit a packet: a Start with very
// long arguments. The first descriptor with it is a file that holds the
// packet, Length bytes from its beginning; the others are the message's own.
type Spilled struct{ Length uint32 }

// Rest has init give its memory back until it is needed again.
type Rest struct{}

// Rested says that init rests, or cannot.
type Rested struct{}

// Open asks for sockets of the sandbox's network namespace, none of which
// block: Streams of TCP, neither bound nor connected, and with Daemon one of
// UDP that is bound to the X-Ray daemon's address.
type Open struct {
	Streams uint32
	Daemon  bool
}

// Opened answers Open; the descriptors with it are the sockets, streams first.
type Opened struct{}

// MaxStreams is the most that one Open may ask for.
const MaxStreams = 2
