package process

import (
	"os"
	"runtime"
	"sync"
)

// spawner starts every program from one operating-system thread. Linux sends
// the parent-death signal when the thread that forked ends, so the thread must
// live as long as the backend: the goroutine is locked to it and waits. Tracing,
// by which a program is held at its first instruction, belongs to a thread too.
type spawner struct {
	jobs  chan spawnJob
	done  chan struct{}
	close func()
}

type spawnJob struct {
	path  string
	args  []string
	attr  *os.ProcAttr
	ready func(pid int)
	reply chan spawned
}

type spawned struct {
	process *os.Process
	err     error
}

func startSpawner(h *host) *spawner {
	s := &spawner{jobs: make(chan spawnJob), done: make(chan struct{})}
	stop := make(chan struct{})
	s.close = sync.OnceFunc(func() {
		close(stop)
		<-s.done
	})
	go func() {
		defer close(s.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for {
			select {
			case job := <-s.jobs:
				p, err := h.launch(job)
				job.reply <- spawned{p, err}
			case <-stop:
				return
			}
		}
	}()
	return s
}

// start runs os.StartProcess on the spawner's thread, and ready with the new
// process's number before the program has executed anything (as far as the host
// can hold it). The caller guarantees that the spawner is open: the backend
// closes it after its last sandbox.
func (s *spawner) start(job spawnJob) (*os.Process, error) {
	job.reply = make(chan spawned, 1)
	s.jobs <- job
	r := <-job.reply
	return r.process, r.err
}
