package config

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// checker is what the checks of all sections share.
type checker struct {
	config   *Config
	root     *node
	faults   *faultList
	warnings *faultList
	used     map[string]map[string]bool // what is named, by its key at the top; see use
	step     func()                     // lets others work
	using    *known                     // notes what the route that is looked at uses; nil: nobody does
}

// site is where a section stands, as its check sees it. A fault is said of a path; on a path that is at fault already
// nothing more is said, and a check that needs several values asks [site.sound] for them first.
type site struct {
	*checker
	path   path
	route  *Route   // the route that the section belongs to, if it is one's
	params []string // the {segments} of that route's path; nil where they are not known
}

// path is a way into the tree.
type path []string

func at(steps ...string) path { return steps }

// to goes deeper; the path itself stays as it is.
func (p path) to(steps ...string) path { return slices.Concat(p, steps) }

func (p path) item(i int) path { return p.to(strconv.Itoa(i)) }

// at returns the path of what lies in the section.
func (s site) at(steps ...string) path { return s.path.to(steps...) }

// to returns the site of a section in this one.
func (s site) to(steps ...string) site {
	s.path = s.at(steps...)
	return s
}

// fault says what is wrong with the value at a path, unless it or a parent is at fault already.
func (k *checker) fault(p path, format string, args ...any) {
	if k.faults.full() {
		return
	}
	l := k.root.find(p...)
	if l.broken {
		return
	}
	message := fmt.Sprintf(format, args...)
	if l.node != nil && l.node.secret {
		k.faults.add(l.at, "%s: what it was expanded to is not right here", l.name())
		return
	}
	k.faults.add(l.at, "%s: %s%s", l.name(), message, l.node.hint())
}

// sound reports whether none of the paths is at fault already.
func (k *checker) sound(paths ...path) bool {
	return !slices.ContainsFunc(paths, func(p path) bool { return k.root.find(p...).broken })
}

// written reports whether a value stands in the documents.
func (k *checker) written(p path) bool { return k.root.find(p...).node != nil }

// has reports whether a member of the section stands in the documents.
func (s site) has(name string) bool {
	section := s.root.find(s.path...).node
	if section == nil {
		return false
	}
	n, _ := section.child(name)
	return n != nil
}

// firstWritten returns the first path that stands in the documents: a fault of two values is shown where one is
// written.
func (k *checker) firstWritten(paths ...path) path {
	for _, p := range paths {
		if k.written(p) {
			return p
		}
	}
	return paths[0]
}

// items returns the nodes of a list.
func (k *checker) items(p path) []*node {
	if l := k.root.find(p...); l.node != nil {
		return l.node.items
	}
	return nil
}

// exists says when a name leads nowhere. The tree is asked and not the struct: what is at fault itself is there all the
// same.
func (k *checker) exists(key, what, name string, p path) bool {
	k.use(key, name)
	all := k.root.find(key)
	if all.broken || all.node != nil && all.node.member(name) != nil {
		return true
	}
	if k.faults.full() {
		return false
	}
	var known []string
	if all.node != nil {
		for _, m := range all.node.members {
			known = append(known, m.name)
		}
	}
	k.fault(p, "there is no %s %q%s", what, name, suggestion(name, known))
	return false
}

// ref checks a reference outside a transaction. params are the segments that the path has; nil leaves that to whatever
// knows the path.
func (k *checker) ref(r ref.Ref, p path, params []string) {
	switch {
	case r.Root == ref.GID:
		k.fault(p, "gid is known in the steps of a transaction only")
	case r.Root == ref.Steps:
		k.fault(p, "%s is known in the steps of a transaction only", r)
	case r.Root == ref.Key:
		k.fault(p, "key is known in the path of a probe only")
	case r.Root == ref.Header:
		k.headerRef(r, p)
	case params != nil && lacks(r, params):
		k.fault(p, "%s: the route's path has no {%s}", r, r.Path[0])
	}
}

// headerRef checks a reference to a header field, wherever references are.
func (k *checker) headerRef(r ref.Ref, p path) {
	if r.Root != ref.Header {
		return
	}
	if why := headerFault(r.Path[0]); why != "" {
		k.fault(p, "%s", why)
	}
}

// lacks reports whether a reference names a segment that is not among the parameters.
func lacks(r ref.Ref, params []string) bool {
	return r.Root == ref.Path && len(r.Path) > 0 && !slices.Contains(params, r.Path[0])
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// hostPort splits an address; the port is a number from 0 to 65535.
func hostPort(address string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(address)
	if e, ok := err.(*net.AddrError); ok {
		return "", "", fmt.Errorf("%s", e.Err)
	}
	if err != nil {
		return "", "", err
	}
	if !soundPort(port) {
		return "", "", fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	if strings.ContainsAny(host, " /?#@%\t") {
		return "", "", fmt.Errorf("host %q is not a name or an address", host)
	}
	return host, port, nil
}

func soundPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == port
}
