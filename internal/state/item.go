package state

import (
	"errors"
	"fmt"
)

// Items are the rows of queues (package queue): many, short-lived, in the
// order in which they are due. They are not records: they have no revision,
// no Watch sees them, and their removal leaves nothing behind.

// Item is one row of a queue. Note may be written again and again, Body is
// written once.
type Item struct {
	ID   int64 // given by AddItem; grows in the order of commits
	Lane string
	Due  int64 // milliseconds since 1970
	Note []byte
	Body []byte
}

// Lane is how many items of a lane there are.
type Lane struct {
	Name  string
	Items int64
}

// AddItem adds an item to a queue and returns its ID. Names are bounded like
// kinds and keys, Note and Body together like values.
func (tx Tx) AddItem(queue string, it Item) (int64, error) {
	t := tx.t
	if err := t.begin(true); err != nil {
		return 0, err
	}
	if t.items == nil {
		return 0, errors.New("add item: no counter")
	}
	if err := checkRecord(queue, it.Lane, it.Body); err != nil {
		return 0, err
	}
	if len(it.Note)+len(it.Body) > MaxValueBytes {
		return 0, fmt.Errorf("%w: note and body of %d bytes, at most %d", ErrInvalid, len(it.Note)+len(it.Body), MaxValueBytes)
	}
	*t.items++
	_, err := t.exec("add item", `insert into item (id, queue, lane, due, note, body) values ($1, $2, $3, $4, $5, $6)`,
		*t.items, queue, it.Lane, it.Due, notNull(it.Note), notNull(it.Body))
	if err != nil {
		return 0, err
	}
	t.bytes += int64(len(it.Lane) + len(it.Note) + len(it.Body))
	return *t.items, nil
}

// MoveItem gives an item another due time and, unless it is nil, another note.
// It reports whether the item exists.
func (tx Tx) MoveItem(id, due int64, note []byte) (bool, error) {
	t := tx.t
	if err := t.begin(true); err != nil {
		return false, err
	}
	if len(note) > MaxValueBytes {
		return false, fmt.Errorf("%w: note of %d bytes, at most %d", ErrInvalid, len(note), MaxValueBytes)
	}
	var n int64
	var err error
	if note == nil {
		n, err = t.exec("move item", `update item set due = $2 where id = $1`, id, due)
	} else {
		n, err = t.exec("move item", `update item set due = $2, note = $3 where id = $1`, id, due, note)
	}
	t.bytes += int64(len(note))
	return n > 0, err
}

// RemoveItem removes an item and reports whether it existed.
func (tx Tx) RemoveItem(id int64) (bool, error) {
	t := tx.t
	if err := t.begin(true); err != nil {
		return false, err
	}
	n, err := t.exec("remove item", `delete from item where id = $1`, id)
	return n > 0, err
}

// Item returns an item whole and whether it exists.
func (tx Tx) Item(queue string, id int64) (Item, bool, error) {
	t := tx.t
	if err := t.begin(false); err != nil {
		return Item{}, false, err
	}
	it := Item{ID: id}
	ok, err := t.row("get item", `select lane, due, note, body from item where id = $1 and queue = $2`, []any{id, queue},
		&it.Lane, &it.Due, &it.Note, &it.Body)
	if !ok || err != nil {
		return Item{}, false, err
	}
	return it, true, nil
}

// Items returns items of a lane in the order of their due times, and of their
// IDs within one: those behind the position of after (its Due and ID; the
// zero Item is the beginning), at most limit. They come without Body.
func (tx Tx) Items(queue, lane string, after Item, limit int) ([]Item, error) {
	t := tx.t
	if err := t.begin(false); err != nil {
		return nil, err
	}
	var list []Item
	const query = `select id, due, note from item where queue = $1 and lane = $2
		and (due > $3 or due = $3 and id > $4) order by due, id limit $5`
	err := t.rows("list items", query, []any{queue, lane, after.Due, after.ID, limit}, func(scan func(...any) error) (bool, error) {
		it := Item{Lane: lane}
		if err := scan(&it.ID, &it.Due, &it.Note); err != nil {
			return false, err
		}
		list = append(list, it)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Lanes returns the lanes of a queue that have items, sorted by name. It
// reads an entry per item, so it is for the start and for people.
func (tx Tx) Lanes(queue string) ([]Lane, error) {
	t := tx.t
	if err := t.begin(false); err != nil {
		return nil, err
	}
	var list []Lane
	const query = `select lane, count(*) from item where queue = $1 group by lane order by lane`
	err := t.rows("list lanes", query, []any{queue}, func(scan func(...any) error) (bool, error) {
		var l Lane
		if err := scan(&l.Name, &l.Items); err != nil {
			return false, err
		}
		list = append(list, l)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// notNull keeps nil from becoming SQL's null.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
