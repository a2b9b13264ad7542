package server

import (
	"sync/atomic"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/fleet"
	"github.com/firn-run/firn/internal/metrics"
)

// limits is the fleet as the control plane sees it.
type limits struct{ *fleet.Fleet }

// SetProvisioned implements control.Limits.
func (l limits) SetProvisioned(arn string, shares []control.Share) {
	var out []fleet.Share
	for _, s := range shares {
		out = append(out, fleet.Share{Version: s.Version, N: s.N})
	}
	l.Fleet.SetProvisioned(arn, out)
}

// Provisioned implements control.Limits.
func (l limits) Provisioned(arn string) control.ProvisionStatus {
	got := l.Fleet.Provisioned(arn)
	return control.ProvisionStatus{Allocated: got.Allocated, Available: got.Available, Status: string(got.Status), Reason: got.Reason}
}

// aside is what the metrics ask the fleet for, which is made after them.
type aside struct{ fleet atomic.Pointer[fleet.Fleet] }

func (a *aside) reserved() map[string]int {
	if f := a.fleet.Load(); f != nil {
		return f.SetAside()
	}
	return nil
}

// countUse puts uses of provisioned concurrency into the metrics.
func countUse(store *metrics.Store) func(fleet.Use) {
	return func(u fleet.Use) {
		of := metrics.Of{InvokedARN: u.InvokedARN, Version: u.Version}
		if u.Spillover {
			store.Observe(metrics.ProvisionedConcurrencySpilloverInvocations, of, 1)
			return
		}
		store.Observe(metrics.ProvisionedConcurrencyInvocations, of, 1)
		store.Observe(metrics.ProvisionedConcurrentExecutions, of, float64(u.Executions))
		store.Observe(metrics.ProvisionedConcurrencyUtilization, of, u.Utilization)
	}
}

// countLoop counts invocations that were stopped as part of a loop.
func countLoop(store *metrics.Store) func(*firn.FunctionVersion, string) {
	return func(v *firn.FunctionVersion, invokedARN string) {
		store.Observe(metrics.RecursiveInvocationsDropped, metrics.Of{InvokedARN: invokedARN, Version: v}, 1)
	}
}
