package environment

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// settle returns the memory in use and the number of goroutines once garbage
// and stacks have shrunk.
func settle() (bytes uint64, goroutines int) {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse, runtime.NumGoroutine()
}

// An idle environment costs firn some 12 KB of heap and as many goroutines as
// it has ends to watch: the listener, the sandbox, one process with its pipe
// and its connection. (The process backend's own watcher of the process is one
// more.) The bound leaves room for stacks that have not shrunk yet.
func TestIdleEnvironmentIsCheap(t *testing.T) {
	const n = 30
	back := backend(t)
	one := startOn(t, back, fixture{})
	one.waitReady()
	before, goroutines := settle()
	for range n {
		w := startOn(t, back, fixture{})
		w.invoke(command{Print: "a line\n"}).Release()
		w.waitReady()
	}
	after, more := settle()
	bytes, gos := int(after-before)/n, (more-goroutines)/n
	t.Logf("an idle environment holds %d bytes and %d goroutines", bytes, gos)
	if bytes > 128<<10 || gos > 8 {
		t.Errorf("%d bytes and %d goroutines for one idle environment", bytes, gos)
	}
}

// Nothing is left of environments that have ended in every possible state.
func TestNoGoroutineIsLeft(t *testing.T) {
	back := backend(t)
	base := runtime.NumGoroutine()
	for _, end := range []func(*world){
		func(w *world) {}, // in the middle of Init
		func(w *world) { w.waitReady() },
		func(w *world) { w.invoke(command{Do: "exit"}, tail) }, // in the middle of a reset
		func(w *world) {
			go w.Invoke(w.t.Context(), &Invocation{RequestID: "r", Payload: []byte(`{"Do":"sleep","Millis":60000}`)})
		},
	} {
		w := startOn(t, back, fixture{extensions: []string{"a"}})
		end(w)
		w.Abort()
		<-w.Done()
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > base && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // archtest:sleep goroutines with nothing left to do end by and by, and tell nobody
	}
	if n := runtime.NumGoroutine(); n > base {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		t.Errorf("%d goroutines, %d before:\n%s", n, base, strings.TrimSpace(string(stacks)))
	}
}
