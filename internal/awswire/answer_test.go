package awswire

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// deadlines is a connection that notes the write deadlines in force.
type deadlines struct {
	*httptest.ResponseRecorder
	set    []time.Time
	during time.Time // in force at the last write
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

func (d *deadlines) Write(b []byte) (int, error) {
	d.during = time.Time{}
	if len(d.set) > 0 {
		d.during = d.set[len(d.set)-1]
	}
	return d.ResponseRecorder.Write(b)
}

func TestLargeAnswersAreBoundedInTime(t *testing.T) {
	conn := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	var w http.ResponseWriter = &answer{ResponseWriter: conn}
	if _, err := w.Write(make([]byte, largeAnswer-1)); err != nil || len(conn.set) != 0 {
		t.Errorf("a small answer: %v, deadlines %v", err, conn.set)
	}
	begun := time.Now()
	if _, err := w.Write(make([]byte, 6<<20)); err != nil {
		t.Fatal(err)
	}
	if got := conn.during.Sub(begun); got < 126*time.Second || got > 130*time.Second {
		t.Errorf("6 MB may take %v, want 126 s", got)
	}
	if last := conn.set[len(conn.set)-1]; !last.IsZero() {
		t.Errorf("the deadline stays in force: %v", last)
	}
}
