package lifecycle

// subscribe decides on a subscription to the Telemetry or the Logs API: for
// extensions that have registered, while an init runs, which ends when all have
// called next (section 3.1). An extension's state has no say in it. What a
// subscriber asks for is the driver's to check.
func (m *Machine) subscribe(ev Subscribe) {
	if m.stage == stageResetting {
		return // ends with its process
	}
	e := m.byID(ev.Call, ev.ID)
	if e == nil {
		return
	}
	switch m.stage {
	case stageInit, stageInvokeInit:
		m.do(AcceptSubscription{Call: ev.Call, Name: e.name, API: ev.API, Body: ev.Body})
	default:
		m.do(RefuseSubscription(ev.Call, ev.API))
	}
}

// RefuseSubscription is the refusal of a subscription that comes too late.
func RefuseSubscription(c Call, api API) Refuse {
	return Refuse{
		Call:      c,
		Status:    statusForbidden,
		ErrorType: string(api) + ".SubscriptionClosed",
		Message:   string(api) + " API subscription is closed",
	}
}
