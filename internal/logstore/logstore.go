// Package logstore is the node's store of log events: what functions write
// and what clients put. It is made for one way of use: events come in by the
// hundred thousand, are read a few times or never, and go when they are old
// or when the disk's share is used up.
//
// Everything lies in one sequence of append-only segment files, whatever
// group and stream it belongs to: a thousand environments are a thousand
// streams, and a file for each would be a thousand open files and a thousand
// syncs. An append is one checksummed block of one stream. Groups and streams
// themselves are records of a small journal, the catalog. In memory are the
// streams, and for each segment the streams that it has something of; neither
// events nor blocks of sealed segments.
//
// The order of events is that of (timestamp, arrival), within a stream and
// across streams. A position in this order is a cursor: it stays right while
// events are appended, and over restarts.
//
// An append is either durable, synced before it returns and sharing the sync
// with all that wait at the same moment, or it is not, and is synced within
// Config.Flush. A disk that is full or broken gives errors, never a panic and
// never a blocked reader; when there is room again the store goes on.
//
// The directory has one owner at a time, who sees to it. DESIGN.md has the
// format on disk and what was decided against.
package logstore

import (
	"errors"
	"log/slog"
	"time"
)

// Errors that callers tell apart, by errors.Is.
var (
	// ErrGroupExists and ErrStreamExists: the name is taken.
	ErrGroupExists  = errors.New("log group exists")
	ErrStreamExists = errors.New("log stream exists")
	// ErrNoGroup and ErrNoStream: there is none of the name.
	ErrNoGroup  = errors.New("no such log group")
	ErrNoStream = errors.New("no such log stream")
	// ErrTooLarge: a message is larger than MaxMessage, or a name than MaxName.
	ErrTooLarge = errors.New("too large for the log store")
	// ErrTooMany: there are Config.MaxStreams streams (groups count as
	// streams here), none of which can be let go of.
	ErrTooMany = errors.New("too many log streams")
	// ErrFull: the file system has no room. Nothing is lost that was
	// appended; a later append may succeed.
	ErrFull = errors.New("no room on the disk of the log store")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("log store is closed")
	// ErrCursor: a string that no position gave.
	ErrCursor = errors.New("invalid log cursor")
)

// Limits that hold for whoever uses the store.
const (
	// MaxMessage bounds one event's message, in bytes: that of PutLogEvents.
	MaxMessage = 1 << 20
	// MaxName bounds the names of groups and streams, in bytes.
	MaxName = 2048
)

// Config says where the store is and how large it may grow.
type Config struct {
	Dir string // made if it does not exist, mode 0700
	// MaxBytes bounds everything in Dir; the default is 2 GiB, the least
	// 1 MiB. When it is reached the oldest segment goes, whoever it belongs
	// to, and Stats.EvictedEvents counts what was lost.
	MaxBytes int64
	// SegmentBytes is the size at which a segment is sealed; the default
	// depends on MaxBytes and is right for all but tests.
	SegmentBytes int64
	// MaxStreams bounds streams and groups together, and with them the
	// memory; the default is 250,000. Beyond it the streams that function
	// output made and that had no event for longest go.
	MaxStreams int
	// Flush is how long an event of an append that is not durable may stay
	// unsynced; the default is one second.
	Flush  time.Duration
	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default discards
}

// Event is one log event. What Append reads of it is Timestamp and Message.
type Event struct {
	Timestamp int64  // when it happened, milliseconds since 1970
	Ingestion int64  // when the store got it, milliseconds since 1970
	Seq       uint64 // its number in order of arrival: unique in the store, also over restarts
	Stream    string // name of its stream
	Message   []byte
}

// Position is where the event is in the order of reading.
func (e Event) Position() Position { return Position{Timestamp: e.Timestamp, Seq: e.Seq} }

// Batch is events of one stream.
type Batch struct {
	Group, Stream string
	Events        []Event
}

// Mode says what Append guarantees.
type Mode struct {
	// Durable syncs before Append returns. Concurrent calls share one sync.
	Durable bool
	// Create makes the group and the stream if they do not exist. A stream
	// made so goes again when its last event goes.
	Create bool
}

// GroupInfo describes a group.
type GroupInfo struct {
	Name        string
	Created     int64 // milliseconds since 1970
	StoredBytes int64 // on disk, without what is expired
	Streams     int
}

// StreamInfo describes a stream. The times are milliseconds since 1970, and
// zero in a stream without events.
type StreamInfo struct {
	Name          string
	Created       int64
	FirstEvent    int64 // least timestamp
	LastEvent     int64 // greatest timestamp
	LastIngestion int64
	StoredBytes   int64
}

// StreamQuery chooses streams of a group.
type StreamQuery struct {
	Group  string
	Prefix string // of the name
	// ByLastEvent orders by the time of the last event instead of by name;
	// streams without events come first, as with time zero.
	ByLastEvent bool
	Descending  bool
	After       string // the former answer's continuation; "" from the start
	Limit       int    // 0 is no limit
}

// Query chooses events.
type Query struct {
	Group string
	// Streams limits the answer to these; names that do not exist are
	// passed over. Empty is all that StreamPrefix lets through.
	Streams      []string
	StreamPrefix string
	From, To     int64 // timestamps in milliseconds: From <= t < To; To 0 is no end
	// After is a position to go on from, not included; zero is the beginning
	// (with Backward, the end).
	After Position
	// Backward takes the last events before After instead of the first after
	// it. The answer is in ascending order all the same.
	Backward bool
	Limit    int // events; 0 is 10,000
	// MaxBytes bounds the messages of the answer, each counted with 26 bytes
	// more, as CloudWatch counts; at least one event is given. 0 is 1 MiB.
	MaxBytes int
}

// Page is an answer to a Query.
type Page struct {
	Events []Event // in ascending order of position
	// More says that there may be further events in the query's direction.
	// Whoever follows a log goes on from the last event's position anyway.
	More bool
}

// Stats are the store's counters; those of events and bytes since it was
// opened, except where another is said.
type Stats struct {
	Bytes         int64 // on disk now, all files
	Segments      int   // now
	Streams       int   // now
	Groups        int   // now
	Appended      int64 // events
	AppendedBytes int64 // of them on disk
	Failed        int64 // events that an append could not store
	EvictedEvents int64 // gone because of MaxBytes, before they were expired or deleted
	EvictedBytes  int64
	WatchDropped  int64 // events that a slow watcher missed
	Corrupt       int64 // blocks that could not be read
	Syncs         int64
}
