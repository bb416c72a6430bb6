package ratelimitservice

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	envoyratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

type entry = envoyratelimit.RateLimitDescriptor_Entry

// Table is what descriptors ask for in one configuration. It is immutable.
type Table struct {
	domains map[string]*domain
}

// NewTable makes the table of the configuration that a build is of. It is in force from
// [Service.Use] on, which the caller calls when the build is committed.
func NewTable(set *policy.Set, b *policy.Build) (*Table, error) {
	domains := []string{config.EnvoyDomain}
	for _, c := range b.Config.Limits {
		if d := c.Descriptor; d != nil && !slices.Contains(domains, d.Domain) {
			domains = append(domains, d.Domain)
		}
	}
	meters, err := set.Meters(b, domains...)
	if err != nil {
		return nil, err
	}
	t := &Table{domains: map[string]*domain{}}
	for _, name := range domains {
		t.domains[name] = &domain{name: name, overrides: newLimit(meters.Overrides[name], name)}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Config.Limits)) {
		c := b.Config.Limits[name]
		t.domains[config.EnvoyDomain].root.add(ownEntries(name, c), newLimit(meters.Limits[name], name))
		if d := c.Descriptor; d != nil {
			t.domains[d.Domain].root.add(d.Entries, newLimit(meters.Limits[name], name))
		}
	}
	return t, nil
}

// ownEntries are those by which a limit is asked for in the domain of the gateway.
func ownEntries(name string, c *config.Limit) []config.DescriptorEntry {
	entries := []config.DescriptorEntry{{Key: limitKey, Value: name}}
	for _, r := range c.Per {
		entries = append(entries, config.DescriptorEntry{Key: r.String()})
	}
	return entries
}

// limitKey is the key of the entry that names a limit.
const limitKey = "limit"

// domain is what a domain takes.
type domain struct {
	name      string
	root      node
	overrides *limit
}

// node is what may follow some entries of a descriptor.
type node struct {
	exact    map[pair]*node
	prefixes []prefix // the longest first
	any      map[string]*node
	limit    *limit // of a descriptor that ends here; nil: none
}

type pair struct{ key, value string }

type prefix struct {
	pair
	next *node
}

// add leads the entries to a limit.
func (n *node) add(entries []config.DescriptorEntry, l *limit) {
	for i, e := range entries {
		n = n.child(e)
		if e.Counted() {
			l.counted = append(l.counted, i)
		}
		if e.Counted() || e.Share {
			l.varying = append(l.varying, i)
		}
	}
	n.limit = l
}

func (n *node) child(e config.DescriptorEntry) *node {
	next := new(node)
	switch value, isPrefix := strings.CutSuffix(e.Value, "*"); {
	case isPrefix:
		p := pair{e.Key, value}
		for _, known := range n.prefixes {
			if known.pair == p {
				return known.next
			}
		}
		n.prefixes = append(n.prefixes, prefix{p, next})
		slices.SortStableFunc(n.prefixes, func(a, b prefix) int { return cmp.Compare(len(b.value), len(a.value)) })
	case e.Value != "":
		if n.exact == nil {
			n.exact = map[pair]*node{}
		}
		if known := n.exact[pair{e.Key, e.Value}]; known != nil {
			return known
		}
		n.exact[pair{e.Key, e.Value}] = next
	default:
		if n.any == nil {
			n.any = map[string]*node{}
		}
		if known := n.any[e.Key]; known != nil {
			return known
		}
		n.any[e.Key] = next
	}
	return next
}

// find returns the limit of a descriptor; nil: none.
func (n *node) find(entries []*entry) *limit {
	for _, e := range entries {
		if n = n.next(e.GetKey(), e.GetValue()); n == nil {
			return nil
		}
	}
	return n.limit
}

func (n *node) next(key, value string) *node {
	if next := n.exact[pair{key, value}]; next != nil {
		return next
	}
	for i := range n.prefixes {
		if p := &n.prefixes[i]; p.key == key && strings.HasPrefix(value, p.value) {
			return p.next
		}
	}
	return n.any[key]
}

// valuesOf returns the key of a descriptor whose entries at those places are counted apart.
func valuesOf(entries []*entry, at []int) string {
	switch len(at) {
	case 0:
		return ""
	case 1:
		return ratelimit.Key([]string{entries[at[0]].GetValue()})
	}
	values := make([]string, 0, 8)
	for _, i := range at {
		values = append(values, entries[i].GetValue())
	}
	return ratelimit.Key(values)
}

// overrideKey returns the key of a descriptor that no limit takes and that brings one.
func overrideKey(entries []*entry) string {
	values := make([]string, 0, 2*len(entries))
	for _, e := range entries {
		values = append(values, e.GetKey(), e.GetValue())
	}
	return ratelimit.Key(values)
}
