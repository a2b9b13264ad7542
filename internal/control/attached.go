package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control/grant"
	"github.com/firn-run/firn/internal/state"
)

// Kinds of records that belong to a function. Their key is NAME/QUALIFIER,
// where the qualifier of a version is its number padded and that of the
// function itself is empty.
const (
	kindVersion     = "function-version"
	kindAlias       = "function-alias"
	kindPolicy      = "function-policy"
	kindEventInvoke = "function-event-invoke"
	kindURL         = "function-url"
	kindProvisioned = "function-provisioned"
	kindRuntimeMode = "function-runtime-management"
	kindSettings    = "function-settings" // its qualifier is always empty
)

// kindVersionCounter has the last version's number by function name. It
// outlives the function: a number is never given twice.
const kindVersionCounter = "function-version-counter"

// attached is what belongs to a function beside code and configuration as
// they are edited. It is immutable; a change makes another one.
type attached struct {
	versions map[string]*record // by number
	aliases  map[string]*alias
	// The rest by qualifier: "" is the function itself.
	policies    map[string]*grant.Policy
	events      map[string]*eventInvoke
	urls        map[string]*functionURL
	provisioned map[string]*provisioned
	runtimes    map[string]*runtimeMode
	settings    settings
}

// settings are those of the function as a whole.
type settings struct {
	Reserved       *int32 `json:",omitempty"`
	AllowRecursion bool   `json:",omitempty"`
}

// write is one record to be written; a nil value deletes it.
type write struct {
	kind, key string
	value     any
}

// edit is a change of a function in the making. Nothing of it is seen before
// it is committed, and then all at once.
type edit struct {
	c    *Control
	name string
	f    *function // nil while the function is made
	old  *record   // nil while the function is made
	rec  *record   // old, or what replaces it
	attached
	writes []write
	number int64 // of the version that is published, or 0
}

// newEdit begins a change. The caller holds the function's lock.
func (c *Control) newEdit(name string) *edit {
	e := &edit{c: c, name: name}
	if f, ok := c.functions.Load(name); ok {
		e.f = f.(*function)
		e.old = e.f.record.Load()
		e.rec = e.old
		e.attached = *e.f.attachments()
	}
	return e
}

// edit lets change alter an existing function, and commits.
func (c *Control) edit(ctx context.Context, ref firn.FunctionRef, change func(*edit) error) error {
	unlock := c.lock(ref.Name)
	defer unlock()
	if _, err := c.findLatest(ref); err != nil {
		return err
	}
	e := c.newEdit(ref.Name)
	err := change(e)
	if err == nil {
		err = e.commit(ctx)
	}
	if err != nil {
		e.unclaim()
	}
	return err
}

// put sets one of the attached things and writes it.
func put[T any](e *edit, all *map[string]T, kind, qualifier string, v T) {
	next := maps.Clone(*all)
	if next == nil {
		next = make(map[string]T)
	}
	next[qualifier] = v
	*all = next
	e.writes = append(e.writes, write{kind, attachedKey(e.name, kind, qualifier), v})
}

// drop deletes one, if it is there.
func drop[T any](e *edit, all *map[string]T, kind, qualifier string) {
	if _, ok := (*all)[qualifier]; !ok {
		return
	}
	next := maps.Clone(*all)
	delete(next, qualifier)
	*all = next
	e.writes = append(e.writes, write{kind, attachedKey(e.name, kind, qualifier), nil})
}

// dropQualifier deletes all that hangs on a version or an alias.
func (e *edit) dropQualifier(q string) {
	drop(e, &e.policies, kindPolicy, q)
	drop(e, &e.events, kindEventInvoke, q)
	drop(e, &e.urls, kindURL, q)
	drop(e, &e.provisioned, kindProvisioned, q)
	drop(e, &e.runtimes, kindRuntimeMode, q)
}

func (e *edit) putSettings(s settings) {
	e.settings = s
	e.writes = append(e.writes, write{kindSettings, attachedKey(e.name, kindSettings, ""), s})
}

func attachedKey(name, kind, qualifier string) string {
	if n, err := strconv.ParseInt(qualifier, 10, 64); kind == kindVersion && err == nil {
		qualifier = fmt.Sprintf("%019d", n)
	}
	return name + "/" + qualifier
}

// commit writes everything and makes it the function in memory. After an
// error nothing has changed, there or here.
func (e *edit) commit(ctx context.Context) error {
	c := e.c
	if e.rec != e.old {
		value, err := c.encode(e.rec, kindFunction, e.name)
		if err != nil {
			return err
		}
		e.writes = append(e.writes, write{kindFunction, e.name, json.RawMessage(value)})
	}
	values := make([][]byte, len(e.writes))
	for i, w := range e.writes {
		var err error
		switch v := w.value.(type) {
		case nil:
		case *record:
			values[i], err = c.encode(v, w.kind, w.key)
		default:
			values[i], err = json.Marshal(v)
		}
		if err != nil {
			return fmt.Errorf("encode %s %s: %w", w.kind, w.key, err)
		}
	}
	var revision state.Revision
	err := c.cfg.Store.Update(ctx, func(tx state.Tx) (err error) {
		revision, err = e.write(tx, values)
		return err
	})
	if errors.Is(err, state.ErrConflict) {
		return firn.Faultf(firn.ResourceConflict, "The operation cannot be performed at this time. An update is in progress for resource: %s", *e.rec.Config.FunctionArn)
	}
	if err != nil {
		return storageFault(err)
	}
	if e.rec != e.old {
		e.rec.revision = revision
	}
	c.install(e)
	return nil
}

func (e *edit) write(tx state.Tx, values [][]byte) (revision state.Revision, err error) {
	for i, w := range e.writes {
		switch {
		case w.kind == kindFunction:
			var want state.Revision
			if e.old != nil {
				want = e.old.revision
			}
			revision, err = tx.PutIf(w.kind, w.key, values[i], want)
		case values[i] == nil:
			err = tx.Delete(w.kind, w.key)
		default:
			_, err = tx.Put(w.kind, w.key, values[i])
		}
		if err != nil {
			return 0, err
		}
	}
	return revision, nil
}

// install makes a committed edit the function in memory.
func (c *Control) install(e *edit) {
	was := &attached{}
	if e.f == nil {
		f, _ := c.functions.LoadOrStore(e.name, &function{})
		e.f = f.(*function)
	} else {
		was = e.f.attachments()
	}
	if e.rec != e.old {
		c.account(e.old, e.rec)
	}
	for number, v := range e.versions {
		if was.versions[number] == nil {
			c.account(nil, v)
		}
	}
	if e.number > 0 {
		c.mu.Lock()
		c.numbers[e.name] = e.number
		c.mu.Unlock()
	}
	now := e.attached
	// A version is there before the record says that it is: whoever was told
	// of one can use it.
	e.f.attached.Store(&now)
	e.f.record.Store(e.rec)
	c.effect(e.rec, was, &now)
	for number, v := range was.versions {
		if now.versions[number] == nil {
			c.account(v, nil)
			c.retire(v)
		}
	}
}

// retire ends the environments of a record that nobody resolves to any more.
func (c *Control) retire(rec *record) {
	if rec.serving != nil {
		c.cfg.Retirer.Retire(rec.serving.Key)
	}
}

// attachments are never nil.
func (f *function) attachments() *attached {
	if a := f.attached.Load(); a != nil {
		return a
	}
	return &attached{}
}

// loadAttached reads what belongs to functions.
func (c *Control) loadAttached(ctx context.Context) (map[string]*attached, error) {
	var out map[string]*attached
	err := c.cfg.Store.View(ctx, func(tx state.Tx) error {
		out = make(map[string]*attached)
		for _, kind := range []string{kindVersion, kindAlias, kindPolicy, kindEventInvoke, kindURL, kindProvisioned, kindRuntimeMode, kindSettings} {
			err := each(tx, kind, func(raw state.Record) error {
				name, qualifier, _ := strings.Cut(raw.Key, "/")
				a := out[name]
				if a == nil {
					a = &attached{}
					out[name] = a
				}
				if err := c.attach(a, raw, qualifier); err != nil {
					return fmt.Errorf("record %s %s: %w", kind, raw.Key, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return each(tx, kindVersionCounter, func(raw state.Record) error {
			n, err := strconv.ParseInt(string(raw.Value), 10, 64)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.numbers[raw.Key] = n
			return err
		})
	})
	return out, err
}

// attach adds one stored record to what belongs to its function.
func (c *Control) attach(a *attached, raw state.Record, qualifier string) error {
	switch raw.Kind {
	case kindVersion:
		rec, err := c.decode(raw)
		if err != nil {
			return err
		}
		if rec.Config.State == stateActive {
			rec.serving = c.version(rec)
		}
		return keep(&a.versions, *rec.Config.Version, rec, nil)
	case kindAlias:
		v := &alias{}
		return keep(&a.aliases, qualifier, v, json.Unmarshal(raw.Value, v))
	case kindPolicy:
		v := &grant.Policy{}
		if err := json.Unmarshal(raw.Value, v); err != nil {
			return err
		}
		return keep(&a.policies, qualifier, v, v.Open())
	case kindEventInvoke:
		v := &eventInvoke{}
		return keep(&a.events, qualifier, v, json.Unmarshal(raw.Value, v))
	case kindURL:
		v := &functionURL{}
		return keep(&a.urls, qualifier, v, json.Unmarshal(raw.Value, v))
	case kindProvisioned:
		v := &provisioned{}
		return keep(&a.provisioned, qualifier, v, json.Unmarshal(raw.Value, v))
	case kindRuntimeMode:
		v := &runtimeMode{}
		return keep(&a.runtimes, qualifier, v, json.Unmarshal(raw.Value, v))
	}
	return json.Unmarshal(raw.Value, &a.settings)
}

// keep adds to a map that is still being made.
func keep[T any](all *map[string]T, qualifier string, v T, err error) error {
	if *all == nil {
		*all = make(map[string]T)
	}
	(*all)[qualifier] = v
	return err
}
