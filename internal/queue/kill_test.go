package queue

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/state"
)

const envChild = "FIRN_QUEUE_TEST_CHILD"

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(envChild); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child puts items from many callers and takes some of them, and says of each
// what happened once it is so, until it is killed.
func child(dir string) error {
	d, err := state.OpenDir(dir)
	if err != nil {
		return err
	}
	s, err := state.Open(context.Background(), state.Config{Dir: d})
	if err != nil {
		return err
	}
	ctx := context.Background()
	q := New(Config{Store: s, Name: "test", Window: 16})
	if err := q.Load(ctx); err != nil {
		return err
	}
	var say sync.Mutex
	tell := func(what string) {
		say.Lock()
		defer say.Unlock()
		fmt.Println(what)
	}
	go q.Run(ctx)
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				body := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if _, err := q.Put(ctx, Item{Lane: fmt.Sprint("lane", w%3), Due: time.Now(), Body: []byte(body)}); err != nil {
					return
				}
				tell("put " + body)
			}
		}()
	}
	for {
		c, err := q.Claim(ctx, all, time.Hour)
		if err != nil {
			return err
		}
		switch c.ID % 3 {
		case 0:
			tell("done " + string(c.Body)) // before: the removal may be lost
			err = q.Ack(c)
		case 1:
			err = q.Return(c, time.Now().Add(50*time.Millisecond), []byte("again"))
		}
		if err != nil {
			return err
		}
	}
}

// Nothing that Put has returned for is lost when the process is killed.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	stored, done := map[string]bool{}, map[string]bool{}
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), envChild+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		n := 0
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			what, body, _ := strings.Cut(lines.Text(), " ")
			if n++; n == 400 {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			switch what {
			case "put":
				stored[body] = true
			case "done":
				done[body] = true
			}
		}
		_ = cmd.Wait() // killed
		if n < 400 {
			t.Fatalf("the child ended after %d lines", n)
		}
	}
	s, end := openStore(t, dir)
	defer end()
	q, stop := start(t, s, Config{Window: 16})
	defer stop()
	found := 0
	for {
		c := claim(t, q, all)
		if c == nil {
			break
		}
		found++
		delete(stored, string(c.Body))
		if err := q.Ack(c); err != nil {
			t.Fatal(err)
		}
	}
	for body := range stored {
		if !done[body] {
			t.Errorf("%s is lost", body)
		}
	}
	t.Logf("%d found again, %d done before", found, len(done))
	waitEmpty(t, q)
}
