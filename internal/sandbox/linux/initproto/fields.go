package initproto

// Kind is KindFailure.
func (*Failure) Kind() Kind { return KindFailure }

// Kind is KindOK.
func (*OK) Kind() Kind { return KindOK }

// Kind is KindSpawn.
func (*Spawn) Kind() Kind { return KindSpawn }

// Kind is KindSpawned.
func (*Spawned) Kind() Kind { return KindSpawned }

// Kind is KindSetup.
func (*Setup) Kind() Kind { return KindSetup }

// Kind is KindReady.
func (*Ready) Kind() Kind { return KindReady }

// Kind is KindSettle.
func (*Settle) Kind() Kind { return KindSettle }

// Kind is KindAssign.
func (*Assign) Kind() Kind { return KindAssign }

// Kind is KindStart.
func (*Start) Kind() Kind { return KindStart }

// Kind is KindStarted.
func (*Started) Kind() Kind { return KindStarted }

// Kind is KindSignal.
func (*Signal) Kind() Kind { return KindSignal }

// Kind is KindSignalAll.
func (*SignalAll) Kind() Kind { return KindSignalAll }

// Kind is KindReset.
func (*Reset) Kind() Kind { return KindReset }

// Kind is KindMeasure.
func (*Measure) Kind() Kind { return KindMeasure }

// Kind is KindMeasured.
func (*Measured) Kind() Kind { return KindMeasured }

// Kind is KindExited.
func (*Exited) Kind() Kind { return KindExited }

// Kind is KindSpilled.
func (*Spilled) Kind() Kind { return KindSpilled }

// Kind is KindRest.
func (*Rest) Kind() Kind { return KindRest }

// Kind is KindRested.
func (*Rested) Kind() Kind { return KindRested }

// Kind is KindOpen.
func (*Open) Kind() Kind { return KindOpen }

// Kind is KindTemplate.
func (*Template) Kind() Kind { return KindTemplate }

// Kind is KindOpened.
func (*Opened) Kind() Kind { return KindOpened }

func (m *Settle) encode(e *encoder) { e.string(m.Filter) }
func (m *Settle) decode(d *decoder) { m.Filter = d.string() }

func (m *Failure) encode(e *encoder) { e.string(m.Step); e.uint(uint64(m.Errno)) }
func (m *Failure) decode(d *decoder) { m.Step = d.string(); m.Errno = d.uint32() }

func (*OK) encode(*encoder)      {}
func (*OK) decode(*decoder)      {}
func (*Ready) encode(*encoder)   {}
func (*Ready) decode(*decoder)   {}
func (*Reset) encode(*encoder)   {}
func (*Reset) decode(*decoder)   {}
func (*Measure) encode(*encoder) {}
func (*Measure) decode(*decoder) {}
func (*Rest) encode(*encoder)    {}
func (*Rest) decode(*decoder)    {}
func (*Rested) encode(*encoder)  {}
func (*Rested) decode(*decoder)  {}
func (*Opened) encode(*encoder)  {}
func (*Opened) decode(*decoder)  {}

func (m *Spawn) encode(e *encoder) {
	e.idMaps(m.UIDs)
	e.idMaps(m.GIDs)
	e.bool(m.Unprivileged)
	e.bool(m.InCgroup)
	e.uint(uint64(m.Tasks))
	e.bool(m.Tree)
}

func (m *Spawn) decode(d *decoder) {
	m.UIDs = d.idMaps()
	m.GIDs = d.idMaps()
	m.Unprivileged = d.bool()
	m.InCgroup = d.bool()
	m.Tasks = d.uint32()
	m.Tree = d.bool()
}

func (e *encoder) idMaps(list []IDMap) {
	e.uint(uint64(len(list)))
	for _, m := range list {
		e.uint(uint64(m.Inside))
		e.uint(uint64(m.Outside))
		e.uint(uint64(m.Count))
	}
}

func (d *decoder) idMaps() []IDMap {
	n := d.length()
	if n == 0 {
		return nil
	}
	list := make([]IDMap, 0, n)
	for range n {
		list = append(list, IDMap{Inside: d.uint32(), Outside: d.uint32(), Count: d.uint32()})
	}
	return list
}

func (m *Spawned) encode(e *encoder) { e.uint(uint64(m.PID)); e.bool(m.Tree); e.bool(m.Entered) }
func (m *Spawned) decode(d *decoder) { m.PID = d.uint32(); m.Tree = d.bool(); m.Entered = d.bool() }

func (m *Template) encode(e *encoder) { e.mounts(m.Mounts); e.links(m.Links) }
func (m *Template) decode(d *decoder) { m.Mounts = d.mounts(); m.Links = d.links() }

func (e *encoder) links(list []Link) {
	e.uint(uint64(len(list)))
	for _, l := range list {
		e.string(l.Path)
		e.string(l.Target)
	}
}

func (d *decoder) links() []Link {
	n := d.length()
	if n == 0 {
		return nil
	}
	list := make([]Link, 0, n)
	for range n {
		list = append(list, Link{Path: d.string(), Target: d.string()})
	}
	return list
}

func (e *encoder) mounts(list []Mount) {
	e.uint(uint64(len(list)))
	for _, m := range list {
		e.string(m.Dest)
		e.string(m.Source)
		e.bool(m.FD)
		e.bool(m.File)
	}
}

func (d *decoder) mounts() []Mount {
	n := d.length()
	if n == 0 {
		return nil
	}
	list := make([]Mount, 0, n)
	for range n {
		list = append(list, Mount{Dest: d.string(), Source: d.string(), FD: d.bool(), File: d.bool()})
	}
	return list
}

func (m *Setup) encode(e *encoder) {
	e.mounts(m.Mounts)
	e.links(m.Links)
	e.mounts(m.Devices)
	e.bool(m.Tree)
	e.bool(m.Base)
	e.string(m.Hostname)
	e.uint(uint64(m.UID))
	e.uint(uint64(m.GID))
	e.bool(m.SetIDs)
	e.bool(m.KeepHost)
	e.uint(uint64(m.Processes))
	e.bool(m.TUN)
}

func (m *Setup) decode(d *decoder) {
	m.Mounts = d.mounts()
	m.Links = d.links()
	m.Devices = d.mounts()
	m.Tree = d.bool()
	m.Base = d.bool()
	m.Hostname = d.string()
	m.UID = d.uint32()
	m.GID = d.uint32()
	m.SetIDs = d.bool()
	m.KeepHost = d.bool()
	m.Processes = d.uint32()
	m.TUN = d.bool()
}

func (m *Assign) encode(e *encoder) { e.mounts(m.Mounts); e.uint(m.TmpBytes) }
func (m *Assign) decode(d *decoder) { m.Mounts = d.mounts(); m.TmpBytes = d.uint() }

func (m *Start) encode(e *encoder) {
	e.string(m.Path)
	e.strings(m.Args)
	e.strings(m.Env)
	e.string(m.Dir)
	e.bool(m.Stdout)
	e.bool(m.Stderr)
	e.uint(uint64(m.Extra))
}

func (m *Start) decode(d *decoder) {
	m.Path = d.string()
	m.Args = d.strings()
	m.Env = d.strings()
	m.Dir = d.string()
	m.Stdout = d.bool()
	m.Stderr = d.bool()
	m.Extra = d.uint32()
}

func (m *Started) encode(e *encoder) {
	e.uint(uint64(m.PID))
	e.uint(uint64(m.Errno))
	e.bool(m.BadDir)
}

func (m *Started) decode(d *decoder) {
	m.PID = d.uint32()
	m.Errno = d.uint32()
	m.BadDir = d.bool()
}

func (m *Signal) encode(e *encoder) { e.uint(uint64(m.PID)); e.uint(uint64(m.Signal)) }
func (m *Signal) decode(d *decoder) { m.PID = d.uint32(); m.Signal = d.uint32() }

func (m *SignalAll) encode(e *encoder) { e.uint(uint64(m.Signal)) }
func (m *SignalAll) decode(d *decoder) { m.Signal = d.uint32() }

func (m *Measured) encode(e *encoder) {
	e.uint(m.Bytes)
	e.uint(uint64(m.Processes))
	e.uint(m.CPUTime)
}

func (m *Measured) decode(d *decoder) {
	m.Bytes = d.uint()
	m.Processes = d.uint32()
	m.CPUTime = d.uint()
}

func (m *Exited) encode(e *encoder) { e.uint(uint64(m.PID)); e.uint(uint64(m.Status)) }
func (m *Exited) decode(d *decoder) { m.PID = d.uint32(); m.Status = d.uint32() }

func (m *Spilled) encode(e *encoder) { e.uint(uint64(m.Length)) }
func (m *Spilled) decode(d *decoder) { m.Length = d.uint32() }

func (m *Open) encode(e *encoder) { e.uint(uint64(m.Streams)); e.bool(m.Daemon) }
func (m *Open) decode(d *decoder) { m.Streams = d.uint32(); m.Daemon = d.bool() }
