// Package logs serves the CloudWatch Logs API over the node's log store, so
// that `aws logs tail`, `sam logs` and every SDK read what functions write.
//
// Log streams and events belong to package logstore, and that a group exists
// is decided there: functions make groups by writing. What AWS keeps beside a
// group, its retention, tags, subscription filters and protection, are records
// in package state, one for each group that has any. A record carries the time
// at which its group was made: one that a crash has left behind is therefore
// never taken for the record of a later group of the same name.
//
// Two things happen in the background, while Run runs: events older than their
// group's retention go, and subscription filters are served. A filter reads
// its group through a watcher of the store, which is its bounded queue, so
// neither a slow nor a broken function holds up whoever writes logs.
//
// Texts and types of errors are those that AWS was seen to answer with; where
// none is known they are this package's own. Operations that list what
// a node can have none of are answered, with nothing. Those that are not
// mounted answer NotImplementedException; options that are not served are
// refused by name, never stored and ignored.
package logs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/logstore"
	"github.com/firn-run/firn/internal/state"
)

// Config is what a Service needs.
type Config struct {
	Store *logstore.Store
	State *state.Store
	// Functions are the destinations of subscription filters. Nil means that
	// there are none: PutSubscriptionFilter finds no function.
	Functions Functions
	// Published sees every event that PutLogEvents has stored: metrics in the
	// embedded metric format. It must not block, and not keep the message.
	// Nil for nobody.
	Published func(message []byte, at time.Time)
	Logger    *slog.Logger // default discards
	Region    string
	Account   string           // twelve digits
	Now       func() time.Time // default time.Now
}

// Functions is what subscription filters need of functions.
type Functions interface {
	// LogGroup returns the name of the log group that a function writes to. It
	// fails when there is no such function or when it cannot be invoked.
	LogGroup(ctx context.Context, functionARN string) (string, error)
	// InvokeAsync hands an event to a function. Nil means that the event was
	// accepted. A *firn.Fault of ResourceNotFound or RequestTooLarge is final;
	// after any other error the event is offered again.
	InvokeAsync(ctx context.Context, functionARN string, payload []byte) error
}

// Service is the CloudWatch Logs API of one account in one region.
type Service struct {
	cfg     Config
	tick    time.Duration // between two updates of a live tail
	patient patience      // of subscription filters

	kick chan struct{} // a retention became shorter
	// life ends when Run ends, and live tails with it.
	life context.Context
	end  context.CancelFunc

	write sync.Mutex // one change of settings at a time; taken before mu

	mu       sync.RWMutex
	settings map[string]*settings // by group; each immutable
	feeds    map[feedKey]*feed    // served now
	feeding  *feeding             // nil while Run does not run
	tails    int                  // live tails now
}

// New makes a Service; it touches nothing. Load must succeed before the API is
// served, and Run must run for retention and subscription filters.
func New(cfg Config) *Service {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	life, end := context.WithCancel(context.Background())
	return &Service{
		cfg: cfg, tick: time.Second, patient: patience{linger: 500 * time.Millisecond, first: 200 * time.Millisecond, most: 30 * time.Second},
		kick: make(chan struct{}, 1), life: life, end: end,
		settings: map[string]*settings{}, feeds: map[feedKey]*feed{},
	}
}

// Mount mounts the operations that are served on a Mux of the service
// CloudWatch Logs.
func (s *Service) Mount(m *awswire.Mux) {
	awswire.Handle(m, s.createLogGroup)
	awswire.Handle(m, s.deleteLogGroup)
	awswire.Handle(m, s.describeLogGroups)
	awswire.Handle(m, s.listLogGroups)
	awswire.Handle(m, s.putRetentionPolicy)
	awswire.Handle(m, s.deleteRetentionPolicy)
	awswire.Handle(m, s.putLogGroupDeletionProtection)

	awswire.Handle(m, s.createLogStream)
	awswire.Handle(m, s.deleteLogStream)
	awswire.Handle(m, s.describeLogStreams)

	awswire.Handle(m, s.putLogEvents)
	awswire.Handle(m, s.getLogEvents)
	awswire.Handle(m, s.filterLogEvents)
	awswire.Handle(m, s.testMetricFilter)
	awswire.HandleStream(m, s.startLiveTail)

	awswire.Handle(m, s.putSubscriptionFilter)
	awswire.Handle(m, s.describeSubscriptionFilters)
	awswire.Handle(m, s.deleteSubscriptionFilter)

	awswire.Handle(m, s.tagLogGroup)
	awswire.Handle(m, s.untagLogGroup)
	awswire.Handle(m, s.listTagsLogGroup)
	awswire.Handle(m, s.tagResource)
	awswire.Handle(m, s.untagResource)
	awswire.Handle(m, s.listTagsForResource)

	s.mountAbsent(m)
}

// Run enforces retention and serves subscription filters until the context
// ends; then it waits for what it started. It is called once.
func (s *Service) Run(ctx context.Context) error {
	defer s.end()
	stop := s.startFeeds(ctx)
	defer stop()
	every := time.NewTicker(retentionEvery)
	defer every.Stop()
	for {
		s.expire()
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		case <-s.kick:
		}
	}
}
