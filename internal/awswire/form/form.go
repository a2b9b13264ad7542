// Package form reads the bodies of AWS's query protocol: pairs of a path with
// dots and a value, percent-encoded and joined by ampersands,
//
//	Action=PutMetricData&MetricData.member.1.MetricName=Errors&...
//
// into a tree. What the nodes mean (a list, a map, a member) only the shape of
// the input tells, so the tree says nothing of it.
//
// The input is a stranger's: depth and number of nodes are bounded.
package form

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Limits of a form. The deepest input of AWS's query services has 12 segments;
// the widest, 1,000 metrics of 150 values, some 300,000 pairs.
const (
	maxSegments = 32
	maxNodes    = 400_000
)

// ErrTooLarge says that a form has more nodes, or a deeper one, than any
// legal request.
var ErrTooLarge = errors.New("the request has too many parameters")

// Node is one segment of a path: a value, or further segments, or both.
type Node struct {
	// Value is the text, if Has is true. Of a path that comes twice it is the
	// last.
	Value string
	Has   bool
	// Kids are the nodes below, by segment.
	Kids map[string]*Node
}

// Kid returns the node below with the given name, or nil. It may be called on
// nil.
func (n *Node) Kid(name string) *Node {
	if n == nil {
		return nil
	}
	return n.Kids[name]
}

// Text returns the value of the node below with the given name, or "".
func (n *Node) Text(name string) string {
	if kid := n.Kid(name); kid != nil {
		return kid.Value
	}
	return ""
}

// Parse reads a form. Empty pairs are skipped.
func Parse(text string) (*Node, error) {
	root := &Node{}
	count := 0
	for pair := range strings.SplitSeq(text, "&") {
		if pair == "" {
			continue
		}
		path, value, _ := strings.Cut(pair, "=")
		path, err := url.QueryUnescape(path)
		if err != nil {
			return nil, fmt.Errorf("name of a parameter: %w", err)
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, fmt.Errorf("value of %s: %w", path, err)
		}
		n, err := root.grow(path, &count)
		if err != nil {
			return nil, err
		}
		n.Value, n.Has = value, true
	}
	return root, nil
}

// grow returns the node at a path and makes what is missing of it.
func (n *Node) grow(path string, count *int) (*Node, error) {
	depth := 0
	for segment := range strings.SplitSeq(path, ".") {
		if depth++; depth > maxSegments {
			return nil, ErrTooLarge
		}
		next := n.Kids[segment]
		if next == nil {
			if *count++; *count > maxNodes {
				return nil, ErrTooLarge
			}
			next = &Node{}
			if n.Kids == nil {
				n.Kids = map[string]*Node{}
			}
			n.Kids[segment] = next
		}
		n = next
	}
	return n, nil
}
