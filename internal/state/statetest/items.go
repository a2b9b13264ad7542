package statetest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/firn-run/firn/internal/state"
)

const itemQueue = "work"

// order reads the bodies of a lane in the order of its items, in pages of two.
func order(ctx context.Context, s *state.Store, lane string) (string, error) {
	var names []string
	err := s.View(ctx, func(tx state.Tx) error {
		names = nil
		var after state.Item
		for {
			page, err := tx.Items(itemQueue, lane, after, 2)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, short := range page {
				whole, ok, err := tx.Item(itemQueue, short.ID)
				if err != nil || !ok {
					return fmt.Errorf("item %d of a page: %t %w", short.ID, ok, err)
				}
				if whole.Lane != lane || whole.Due != short.Due || string(whole.Note) != string(short.Note) || short.Body != nil {
					return fmt.Errorf("an item is %+v in a page and %+v alone", short, whole)
				}
				names = append(names, string(whole.Body)+"/"+string(whole.Note))
			}
			after = page[len(page)-1]
		}
	})
	return strings.Join(names, " "), err
}

func wantOrder(ctx context.Context, s *state.Store, lane, want string) error {
	got, err := order(ctx, s, lane)
	if err == nil && got != want {
		err = fmt.Errorf("lane %s is %q, want %q", lane, got, want)
	}
	return err
}

func itemsAdd(ctx context.Context, s *state.Store, _ map[string]int64) error {
	var last int64
	return s.Update(ctx, func(tx state.Tx) error {
		for _, it := range []state.Item{
			{Lane: "a", Due: 20, Note: []byte("1"), Body: []byte("late")},
			{Lane: "a", Due: 10, Note: []byte("1"), Body: []byte("first")},
			{Lane: "b", Due: 5, Body: []byte("other")},
			{Lane: "a", Due: 10, Note: []byte("1"), Body: []byte("second")},
		} {
			id, err := tx.AddItem(itemQueue, it)
			if err != nil || id <= last {
				return fmt.Errorf("add: id %d after %d: %w", id, last, err)
			}
			last = id
		}
		_, err := tx.AddItem("elsewhere", state.Item{Lane: "a", Due: 1})
		return err
	})
}

func itemsOrder(ctx context.Context, s *state.Store, _ map[string]int64) error {
	if err := s.View(ctx, func(tx state.Tx) error {
		lanes, err := tx.Lanes(itemQueue)
		if got := fmt.Sprint(lanes); err == nil && got != "[{a 3} {b 1}]" {
			err = errors.New("lanes are " + got)
		}
		return err
	}); err != nil {
		return err
	}
	return wantOrder(ctx, s, "a", "first/1 second/1 late/1")
}

func itemsMove(ctx context.Context, s *state.Store, _ map[string]int64) error {
	return s.Update(ctx, func(tx state.Tx) error {
		page, err := tx.Items(itemQueue, "a", state.Item{}, 9)
		if err != nil {
			return err
		}
		if ok, err := tx.MoveItem(page[0].ID, 30, []byte("2")); err != nil || !ok {
			return fmt.Errorf("move: %t %w", ok, err)
		}
		if ok, err := tx.RemoveItem(page[1].ID); err != nil || !ok {
			return fmt.Errorf("remove: %t %w", ok, err)
		}
		if ok, err := tx.RemoveItem(page[1].ID); err != nil || ok {
			return fmt.Errorf("remove again: %t %w", ok, err)
		}
		if ok, err := tx.MoveItem(page[2].ID, 25, nil); err != nil || !ok {
			return fmt.Errorf("move with its note: %t %w", ok, err)
		}
		if ok, err := tx.MoveItem(page[1].ID, 1, nil); err != nil || ok {
			return fmt.Errorf("moved what is gone: %t %w", ok, err)
		}
		if _, ok, err := tx.Item("elsewhere", page[0].ID); err != nil || ok {
			return fmt.Errorf("got another queue's item: %t %w", ok, err)
		}
		return nil
	})
}

func itemsMoved(ctx context.Context, s *state.Store, _ map[string]int64) error {
	return wantOrder(ctx, s, "a", "late/1 first/2")
}

func itemsRefused(ctx context.Context, s *state.Store, _ map[string]int64) error {
	before, err := order(ctx, s, "a")
	if err != nil {
		return err
	}
	big := make([]byte, state.MaxValueBytes)
	for _, it := range []state.Item{{}, {Lane: "a\x00"}, {Lane: "a", Body: append(big, 1)}, {Lane: "a", Note: []byte{1}, Body: big}} {
		err := s.Update(ctx, func(tx state.Tx) error {
			if _, err := tx.AddItem(itemQueue, state.Item{Lane: "a", Due: 1}); err != nil {
				return fmt.Errorf("a good item: %w", err)
			}
			_, err := tx.AddItem(itemQueue, it)
			return err
		})
		if err := wantErr("a bad item", err, state.ErrInvalid); err != nil {
			return err
		}
	}
	err = s.View(ctx, func(tx state.Tx) error {
		_, err := tx.AddItem(itemQueue, state.Item{Lane: "a"})
		return err
	})
	if err := wantErr("an item in a View", err, state.ErrReadOnly); err != nil {
		return err
	}
	return wantOrder(ctx, s, "a", before)
}
