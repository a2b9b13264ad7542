// Package metrics is CloudWatch's metrics for firn: what Lambda publishes of
// each function in the namespace AWS/Lambda, what functions publish of
// themselves, and the API in front of both.
//
// Values come in by three ways. Environments tell of invocations by their
// platform records: the Sink counts them on the environment's own goroutine,
// in an accumulator of the function, and nothing but that accumulator is
// locked. Lines in the embedded metric format are recognised by the same Sink
// and put into a bounded queue. PutMetricData, and the other two once they
// are drained, end in package series, which keeps datapoints.
//
// Accumulators are drained at every full minute, before every query, and at
// the end; a datapoint belongs to the minute in which its invocation began, as
// on AWS, so that a long one adds to a minute long past.
//
// Dimensions are AWS's: an invocation of an alias counts for the function, for
// function and alias (Resource "name:alias"), for these and the version that
// was executed (ExecutedVersion), and for the whole account (no dimensions).
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn/internal/metrics/series"
	"github.com/firn-run/firn/internal/telemetry/exposition"
)

// Namespace is that of Lambda's own metrics.
const Namespace = "AWS/Lambda"

// Config is what a Store needs. Dir, Now and Logger are required.
type Config struct {
	Dir     string // for the datapoints; made when it is missing
	Now     func() time.Time
	Logger  *slog.Logger
	Region  string
	Account string
	// Reserved tells, once a minute, the concurrency that is set aside per
	// function: reserved, or provisioned for those without. It is what
	// separates UnreservedConcurrentExecutions from ConcurrentExecutions and
	// is added to ClaimedAccountConcurrency. Nil means that none is.
	Reserved func() map[string]int
	// MaxDiskBytes bounds what Dir holds (0: 2 GiB).
	MaxDiskBytes int64
}

// Store is the metrics of one node. It is safe for concurrent use.
type Store struct {
	cfg     Config
	db      *series.DB
	account account
	bounds  []float64 // of the exposition's histograms
	shards  sync.Map  // function's name -> *function
	known   atomic.Int64
	drains  sync.Mutex // held while accumulators are drained
	emf     emfQueue
	counts  counters
	closed  atomic.Bool
	told    atomic.Int64 // minute of the last complaint in the log
}

// counters is what was dropped, by reason, for the exposition and the log.
type counters struct {
	emfQueue, emfInvalid, functions atomic.Uint64
}

// Limits of a Store.
const (
	// maxFunctions bounds the accumulators; invocations of functions beyond
	// count for the account only.
	maxFunctions = 10_000
	// maxTargets bounds qualifiers and versions per function.
	maxTargets = 1_000
	// forgotten is after how long without a report an invocation is no
	// longer counted as running: longer than any can last.
	forgotten = 30 * time.Minute
)

// New opens the store in cfg.Dir and reads what an earlier run has left. The
// Store works at once; Run is needed for what is done by time. Close it.
func New(cfg Config) (*Store, error) {
	if cfg.Dir == "" || cfg.Now == nil || cfg.Logger == nil {
		return nil, errors.New("metrics: Dir, Now and Logger are required")
	}
	db, err := series.Open(series.Config{Dir: cfg.Dir, Now: cfg.Now, Logger: cfg.Logger, MaxDiskBytes: cfg.MaxDiskBytes})
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	s := &Store{cfg: cfg, db: db, bounds: exposition.Bounds()}
	s.emf.wake = make(chan struct{}, 1)
	s.refreshReserved()
	return s, nil
}

// Run drains accumulators at every full minute and lines of the embedded
// metric format as they come, and maintains the datapoints' files. It returns
// nil when ctx ends.
func (s *Store) Run(ctx context.Context) error {
	const step = 5 * time.Second
	tick := time.NewTicker(step)
	defer tick.Stop()
	rested := time.NewTimer(0)
	defer rested.Stop()
	var wake chan struct{} // nil while the parser rests
	minute := s.cfg.Now().Unix() / 60
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-rested.C:
			wake = s.emf.wake
		case <-wake:
			// It rests as long as it worked, so that no flood of lines takes
			// more than half a processor; what the queue cannot hold is lost.
			begin := time.Now()
			s.drainEMF()
			wake = nil
			rested.Reset(time.Since(begin))
		case <-tick.C:
			if now := s.cfg.Now().Unix() / 60; now != minute {
				minute = now
				s.refreshReserved()
				s.sampleRunning()
				s.drain(true)
			}
			if err := s.db.Maintain(); err != nil {
				s.cfg.Logger.Error("metrics cannot be maintained", "error", err)
			}
		}
	}
}

// Close writes what has not been written. Calls after it are harmless and
// change nothing.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.drainEMF()
	s.drain(true)
	return s.db.Close()
}

// settle makes queries see what was recorded before them.
func (s *Store) settle() {
	s.drainEMF()
	s.drain(false)
}

// complain tells in the log that data was not kept, once a minute.
func (s *Store) complain(what string, samples int, err error) {
	minute := s.cfg.Now().Unix() / 60
	if s.told.Swap(minute) != minute {
		s.cfg.Logger.Error("metrics were not kept", "from", what, "samples", samples, "error", err)
	}
}
