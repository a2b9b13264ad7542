//go:build !linux

package main

import (
	"context"
	"errors"
)

// platform measures what only Linux has.
type platform struct{}

var errNotHere = errors.New("this group needs Linux; leave it out with -no-cold -no-managed -no-freeze -no-memory")

func newPlatform(context.Context, *lab) (*platform, error) { return nil, errNotHere }

func (p *platform) close() error { return nil }

func (p *platform) round(context.Context, *book, string, int) error { return errNotHere }

func (l *lab) freeze(context.Context) error { return errNotHere }

func (l *lab) managed(context.Context) error { return errNotHere }

func (l *lab) memory(context.Context) error { return errNotHere }
