package logs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/firn-run/firn/internal/state"
)

// kindGroup is the kind of the records of groups; their key is the name.
const kindGroup = "loggroup"

// settings is what is stored beside a group. A value that has been published
// is never changed.
type settings struct {
	// Created is when the group was made: with another one the record is not
	// about the group of today.
	Created   int64
	Retention int32             `json:",omitempty"` // days; 0 is for ever
	Protected bool              `json:",omitempty"` // against deletion
	Tags      map[string]string `json:",omitempty"`
	Filters   []filter          `json:",omitempty"` // sorted by name
}

// filter is a subscription filter.
type filter struct {
	Name         string
	Pattern      string
	Destination  string // ARN of the function
	Distribution string
	Created      int64 // milliseconds since 1970
}

func (t *settings) clone() *settings {
	c := *t
	c.Tags = maps.Clone(t.Tags)
	c.Filters = slices.Clone(t.Filters)
	return &c
}

// empty reports whether there is nothing to be kept.
func (t *settings) empty() bool {
	return t.Retention == 0 && !t.Protected && len(t.Tags) == 0 && len(t.Filters) == 0
}

// Load reads the settings of all groups.
func (s *Service) Load(ctx context.Context) error {
	loaded := map[string]*settings{}
	err := s.cfg.State.View(ctx, func(tx state.Tx) error {
		clear(loaded)
		records, err := tx.List(kindGroup, "", "", 0)
		if err != nil {
			return err
		}
		for _, r := range records {
			t := &settings{}
			if err := json.Unmarshal(r.Value, t); err != nil {
				return fmt.Errorf("record of log group %s: %w", r.Key, err)
			}
			loaded[r.Key] = t
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("load log groups: %w", err)
	}
	for name, t := range loaded {
		if info, ok := s.cfg.Store.Group(name); !ok || info.Created != t.Created {
			delete(loaded, name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings = loaded
	s.feedLocked()
	return nil
}

// of returns the settings of a group that was made at created. They are not to
// be changed.
func (s *Service) of(name string, created int64) *settings {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.settings[name]; t != nil && t.Created == created {
		return t
	}
	return &settings{Created: created}
}

// get returns the settings of a group that exists.
func (s *Service) get(name string) (*settings, error) {
	info, ok := s.cfg.Store.Group(name)
	if !ok {
		return nil, noGroup()
	}
	return s.of(name, info.Created), nil
}

// change has fn change the settings of a group, and returns when that is on
// disk. After an error nothing has changed.
func (s *Service) change(ctx context.Context, name string, fn func(*settings) error) error {
	s.write.Lock()
	defer s.write.Unlock()
	old, err := s.get(name)
	if err != nil {
		return err
	}
	next := old.clone()
	if err := fn(next); err != nil {
		return err
	}
	return s.saveLocked(ctx, name, next)
}

// saveLocked stores and publishes settings; nil removes them. The caller holds
// s.write.
func (s *Service) saveLocked(ctx context.Context, name string, next *settings) error {
	if next != nil && next.empty() {
		next = nil
	}
	var value []byte
	if next != nil {
		var err error
		if value, err = json.Marshal(next); err != nil {
			return fmt.Errorf("encode log group %s: %w", name, err)
		}
	}
	err := s.cfg.State.Update(ctx, func(tx state.Tx) error {
		if next == nil {
			return tx.Delete(kindGroup, name)
		}
		_, err := tx.Put(kindGroup, name, value)
		return err
	})
	if err != nil {
		return storeError(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if next == nil {
		delete(s.settings, name)
	} else {
		s.settings[name] = next
	}
	s.feedLocked()
	return nil
}
