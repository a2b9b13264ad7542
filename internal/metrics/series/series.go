// Package series keeps time series of statistic sets: what CloudWatch stores
// behind a metric. A datapoint says of one period how many samples there were,
// their sum, least and greatest, and, as far as it is known, how they were
// distributed.
//
// Datapoints are mergeable: two of the same period add up to the datapoint of
// all their samples. Everything rests on that. Writers add partial datapoints
// in any order and as late as two weeks; a period that is read is merged from
// wherever parts of it lie; longer periods are merged from shorter ones.
//
// What is new lives in memory (the head) and in a journal, which makes it
// survive: Add returns when its batch is synced, together with those of all
// who wait at that moment. From time to time the head is written into blocks,
// one per window of time, and the journal begins anew. Blocks are immutable;
// several of one window are merged into one, and a window that has aged is
// rewritten with longer periods, as CloudWatch does:
//
//	period    kept      window of a block
//	1 s       3 h       1 h
//	1 min     15 days   1 day
//	5 min     63 days   7 days
//	1 h       455 days  28 days
//
// A manifest, replaced by rename, names the blocks and the first journal that
// are in force, so that head, blocks and journals change hands at one moment
// whatever crashes.
//
// Everything is bounded: series, the bytes of their names, the head, the disk.
// What is beyond is dropped and counted; of the series, those that were silent
// longest make room.
package series

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Dimension is a name and a value that tell a metric from its siblings.
type Dimension struct{ Name, Value string }

// Key names a series. Dimensions are sorted by name (NewKey sees to it); a
// unit makes a series of its own, since CloudWatch never adds up two units.
type Key struct {
	Namespace  string
	Name       string
	Dimensions []Dimension
	Unit       string // "None" when the writer named none
}

// NewKey makes a Key with its dimensions sorted by name.
func NewKey(namespace, name string, dims []Dimension, unit string) Key {
	dims = slices.Clone(dims)
	slices.SortFunc(dims, func(a, b Dimension) int { return strings.Compare(a.Name, b.Name) })
	if unit == "" {
		unit = "None"
	}
	return Key{Namespace: namespace, Name: name, Dimensions: dims, Unit: unit}
}

// Sample is a partial datapoint for one series.
type Sample struct {
	Key   Key
	Time  time.Time // rounded down to the resolution
	Point Point
	// HighResolution keeps the point's second; else its minute is kept.
	HighResolution bool
}

// Datapoint is a merged datapoint of a period that begins at Time.
type Datapoint struct {
	Time  time.Time
	Unit  string
	Point Point
}

// Listed is a series as List tells it.
type Listed struct {
	Key  Key
	Last time.Time // begin of its latest period
}

// Config is what a DB needs. Dir, Now and Logger are required.
type Config struct {
	Dir    string // made when it is missing; one process at a time
	Now    func() time.Time
	Logger *slog.Logger
	// MaxSeries bounds the series that are known (0: 100,000); four fifths
	// of them, and of their names, outside of the namespaces of AWS.
	MaxSeries int
	// MaxNameBytes bounds the memory of their names (0: 64 MiB).
	MaxNameBytes int64
	// MaxHeadCost bounds the head, in bytes by estimate (0: 64 MiB).
	MaxHeadCost int64
	// MaxDiskBytes bounds blocks and journals (0: 2 GiB); the oldest blocks
	// make room.
	MaxDiskBytes int64
}

// Defaults of Config.
const (
	defaultMaxSeries    = 100_000
	defaultMaxNameBytes = 64 << 20
	defaultMaxHeadCost  = 64 << 20
	defaultMaxDiskBytes = 2 << 30
)

// Errors of a DB.
var (
	// ErrClosed: the DB was closed.
	ErrClosed = errors.New("series: closed")
	// ErrBroken: a write to the journal failed; nothing is accepted until a
	// restart has read what is really on the disk.
	ErrBroken = errors.New("series: the journal failed, writing has ended until a restart")
	// ErrFull: the disk has no room for the batch; nothing of it was kept.
	ErrFull = errors.New("series: the disk is full")
)

// tier is one row of the table in the package comment.
type tier struct {
	period, keep, window int64 // seconds
}

func tiers() [4]tier {
	const day = 86400
	return [4]tier{
		{1, 3 * 3600, 3600},
		{60, 15 * day, day},
		{300, 63 * day, 7 * day},
		{3600, 455 * day, 28 * day},
	}
}

// Finest is the shortest period, in seconds, in which datapoints of the given
// age can still be read.
func Finest(age time.Duration) int64 {
	t := tiers()
	for _, tier := range t {
		if age <= time.Duration(tier.keep)*time.Second {
			return tier.period
		}
	}
	return t[len(t)-1].period
}

// floor rounds t down to a multiple of step, for negative numbers too.
func floor(t, step int64) int64 {
	m := t % step
	if m < 0 {
		m += step
	}
	return t - m
}
