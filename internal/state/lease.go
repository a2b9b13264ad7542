package state

import (
	"context"
	"fmt"
	"time"
)

// Lease takes the named lease for ttl and returns its epoch, greater than any
// before. It fails with ErrLeaseHeld while another, or this node itself, has
// it unexpired. Whoever holds a lease renews it well within ttl and checks
// its epoch (Tx.Fence) in each Update that relies on it: time alone proves
// nothing, since a holder may have been stopped in the meantime.
//
// Where one process owns the store, a restart ends all leases: their holders
// are gone.
func (s *Store) Lease(ctx context.Context, name string, ttl time.Duration) (Epoch, error) {
	if err := checkLease(name, ttl); err != nil {
		return 0, err
	}
	var epoch Epoch
	err := s.Update(ctx, func(tx Tx) error {
		t := tx.t
		now := t.now()
		ok, err := t.row("lease", `insert into lease (name, epoch, owner, expires) values ($1, 1, $2, $3)
			on conflict (name) do update set epoch = lease.epoch + 1, owner = excluded.owner, expires = excluded.expires
			where lease.expires <= $4 returning epoch`, []any{name, t.node, now + ttl.Milliseconds(), now}, &epoch)
		if err != nil || ok {
			t.wrote = ok
			return err
		}
		var owner string
		var expires int64
		if _, err := t.row("lease", `select owner, expires from lease where name = $1`, []any{name}, &owner, &expires); err != nil {
			return err
		}
		return fmt.Errorf("%w: %q by %s until %s", ErrLeaseHeld, name, owner, time.UnixMilli(expires).UTC().Format(time.RFC3339Nano))
	})
	if err != nil {
		return 0, err
	}
	return epoch, nil
}

// RenewLease makes a lease last ttl from now. It fails with ErrLeaseLost when
// someone else has taken it or it was released. One that has expired but was
// not taken is still good.
func (s *Store) RenewLease(ctx context.Context, name string, epoch Epoch, ttl time.Duration) error {
	if err := checkLease(name, ttl); err != nil {
		return err
	}
	return s.Update(ctx, func(tx Tx) error {
		t := tx.t
		n, err := t.exec("renew lease", `update lease set expires = $3 where name = $1 and epoch = $2`,
			name, epoch, t.now()+ttl.Milliseconds())
		return lost(name, n, err)
	})
}

// ReleaseLease gives a lease back before it expires. It fails with
// ErrLeaseLost when it was not held any more, which the caller may ignore.
func (s *Store) ReleaseLease(ctx context.Context, name string, epoch Epoch) error {
	return s.Update(ctx, func(tx Tx) error {
		// The epoch moves on too, so that the former holder is fenced off.
		n, err := tx.t.exec("release lease",
			`update lease set expires = 0, epoch = epoch + 1 where name = $1 and epoch = $2`, name, epoch)
		return lost(name, n, err)
	})
}

// Fence fails with ErrLeaseLost unless the lease has this epoch and has not
// expired, at this point of the order of all Updates.
func (tx Tx) Fence(name string, epoch Epoch) error {
	t := tx.t
	if err := t.begin(true); err != nil {
		return err
	}
	var expires int64
	ok, err := t.row("fence", `select expires from lease where name = $1 and epoch = $2`, []any{name, epoch}, &expires)
	if err != nil {
		return err
	}
	if !ok || expires <= t.now() {
		return lost(name, 0, nil)
	}
	return nil
}

func lost(name string, rows int64, err error) error {
	if err != nil {
		return err
	}
	if rows == 0 {
		return fmt.Errorf("%w: %q", ErrLeaseLost, name)
	}
	return nil
}

func checkLease(name string, ttl time.Duration) error {
	if err := checkName("lease name", name, MaxKeyBytes); err != nil {
		return err
	}
	if ttl < time.Millisecond {
		return fmt.Errorf("lease %q: a time to live of %s is less than a millisecond", name, ttl)
	}
	return nil
}
