package logs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
)

const (
	// retentionEvery is how often events are expired. AWS takes up to 72 hours.
	retentionEvery = time.Minute
	day            = 24 * time.Hour
)

// retentionDays are the periods that AWS allows (PutRetentionPolicy, API
// Reference).
func retentionDays() []int32 {
	return []int32{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
}

func (s *Service) putRetentionPolicy(ctx context.Context, in *cloudwatchlogs.PutRetentionPolicyInput) (*cloudwatchlogs.PutRetentionPolicyOutput, error) {
	days := *in.RetentionInDays
	if allowed := retentionDays(); !slices.Contains(allowed, days) {
		return nil, invalid(fmt.Sprintf("1 validation error detected: Value '%d' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [%s]", days, strings.ReplaceAll(strings.Trim(fmt.Sprint(allowed), "[]"), " ", ", ")))
	}
	err := s.change(ctx, *in.LogGroupName, func(t *settings) error {
		t.Retention = days
		return nil
	})
	if err != nil {
		return nil, err
	}
	select {
	case s.kick <- struct{}{}:
	default: // Run will look anyway
	}
	return nil, nil
}

func (s *Service) deleteRetentionPolicy(ctx context.Context, in *cloudwatchlogs.DeleteRetentionPolicyInput) (*cloudwatchlogs.DeleteRetentionPolicyOutput, error) {
	return nil, s.change(ctx, *in.LogGroupName, func(t *settings) error {
		t.Retention = 0
		return nil
	})
}

// oldest is the timestamp before which events of the group are expired, or 0.
func (t *settings) oldest(now time.Time) int64 {
	if t.Retention == 0 {
		return 0
	}
	return now.Add(-time.Duration(t.Retention) * day).UnixMilli()
}

// expire lets go of events that are older than the retention of their group.
func (s *Service) expire() {
	now := s.cfg.Now()
	before := map[string]int64{}
	s.mu.RLock()
	for name, t := range s.settings {
		if info, ok := s.cfg.Store.Group(name); ok && info.Created == t.Created && t.Retention > 0 {
			before[name] = t.oldest(now)
		}
	}
	s.mu.RUnlock()
	for name, oldest := range before {
		if err := s.cfg.Store.Expire(name, oldest); err != nil {
			s.cfg.Logger.Warn("old log events could not be expired", "group", name, "error", err)
		}
	}
}
