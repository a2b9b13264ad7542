package image

import (
	"errors"
	"strings"
)

const (
	// maxFollowed is how many links the kernel follows on one path (MAXSYMLINKS).
	maxFollowed = 40
	// maxLinkSteps bounds the work of checking all links of a tree, in path
	// components. A node_modules/.bin of 1,000 links needs some 5,000.
	maxLinkSteps = 200_000
	// maxLinksBytes bounds the targets of all links of an archive together.
	maxLinksBytes = 4 << 20
)

// linkTree checks the symbolic links of a tree against each other.
type linkTree struct {
	targets map[string]string // by clean name
	steps   int               // left of maxLinkSteps
}

func newLinkTree() *linkTree {
	return &linkTree{targets: make(map[string]string), steps: maxLinkSteps}
}

// check follows the link at name as the kernel would, through the other links
// of the tree, and refuses one that leaves the root. Counting dots is not
// enough: a link may climb through another link.
//
// An absolute target is right only inside the execution environment, so only
// the places that an archive can be mounted at are allowed.
func (t *linkTree) check(name string) error {
	at := parent(name)
	target := t.targets[name]
	if strings.HasPrefix(target, "/") {
		return checkAbsolute(target)
	}
	todo := strings.Split(target, "/")
	for followed := 0; len(todo) > 0; {
		if t.steps--; t.steps < 0 {
			return errors.New("there are too many links")
		}
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "" {
				return errEscapes
			}
			at = parent(at)
			continue
		}
		here := part
		if at != "" {
			here = at + "/" + part
		}
		target, isLink := t.targets[here]
		switch {
		case !isLink:
			at = here
		case strings.HasPrefix(target, "/"):
			// The walk goes on in another mount; what is behind may not climb
			// out of that either.
			return checkAbsolute(target + "/" + strings.Join(todo, "/"))
		default:
			if followed++; followed > maxFollowed {
				return nil // a loop: it leads nowhere
			}
			todo = append(strings.Split(target, "/"), todo...)
			if len(todo) > maxLinkBytes || len(here) > maxPathBytes {
				return errors.New("the link's target grows without end")
			}
		}
	}
	return nil
}

// checkAbsolute allows what stays below /var/task or /opt. Climbing out and in
// again is not needed by anybody.
func checkAbsolute(target string) error {
	rest, ok := cutRoot(target)
	if !ok {
		return errEscapes
	}
	depth := 0
	for part := range strings.SplitSeq(rest, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return errEscapes
			}
		default:
			depth++
		}
	}
	return nil
}

func cutRoot(target string) (rest string, ok bool) {
	for _, root := range []string{"/var/task", "/opt"} {
		if rest, ok := strings.CutPrefix(target, root); ok && (rest == "" || rest[0] == '/') {
			return rest, true
		}
	}
	return "", false
}
