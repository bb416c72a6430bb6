package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

const (
	lookupTimeout = 10 * time.Second // the system's resolver has its own, which are shorter
	absentAfter   = 3                // lookups in a row by which a name without addresses is believed to have none
	targetsMax    = 100              // of SRV records, that are looked up
)

// names is a name in DNS.
type names struct {
	from     *config.EndpointsFrom
	every    time.Duration
	resolver Resolver

	answered bool                    // at least once
	absent   int                     // lookups in a row that found no name, or no address
	known    map[string][]netip.Addr // of the targets of SRV records, as they were found last
}

// run implements [source].
func (n *names) run(ctx context.Context, r reporter) {
	for {
		n.look(ctx, r)
		wait := n.every
		if !n.answered {
			wait = min(wait, time.Second)
		}
		if !sleep(ctx, wait-rand.N(wait/10+1)) {
			return
		}
	}
}

// look looks the name up and reports.
func (n *names) look(ctx context.Context, r reporter) {
	limited, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	endpoints, note, err := n.lookUp(limited)
	if ctx.Err() != nil {
		return
	}
	absent := isAbsent(err)
	if !absent {
		n.absent = 0
	}
	switch {
	case err == nil:
		n.answered = true
		r.found(endpoints, note)
	case !absent:
		r.failed(err)
	case n.absent+1 < absentAfter:
		n.absent++
		r.failed(fmt.Errorf("%w (it is believed when %d lookups in a row say so)", err, absentAfter))
	default:
		n.answered = true
		r.found([]config.Endpoint{}, err.Error())
	}
}

// isAbsent reports whether a resolver said that there is no such name, or no address of it.
func isAbsent(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound && !e.IsTemporary && !e.IsTimeout
}

func (n *names) lookUp(ctx context.Context) (endpoints []config.Endpoint, note string, err error) {
	if n.from.DNS.SRV {
		return n.lookUpRecords(ctx)
	}
	addresses, err := n.resolver.LookupNetIP(ctx, "ip", n.from.DNS.Name)
	if err != nil {
		return nil, "", err
	}
	endpoints, err = n.at(nil, addresses, n.from.DNS.Name, n.from.DNS.Port)
	return endpoints, "", err
}

// at appends the endpoints at the addresses of a name.
func (n *names) at(list []config.Endpoint, addresses []netip.Addr, name string, port int) ([]config.Endpoint, error) {
	text := strconv.Itoa(port)
	host := net.JoinHostPort(strings.TrimSuffix(name, "."), text)
	for _, a := range addresses {
		e, err := n.from.Endpoint(net.JoinHostPort(a.Unmap().String(), text), host)
		if err != nil {
			return nil, fmt.Errorf("lookup %s: %w", name, err)
		}
		list = append(list, e)
	}
	return list, nil
}

// lookUpRecords goes through the priorities, the lowest first, to one with an address (RFC 2782).
func (n *names) lookUpRecords(ctx context.Context) (endpoints []config.Endpoint, note string, err error) {
	_, records, err := n.resolver.LookupSRV(ctx, "", "", n.from.DNS.Name)
	if err != nil {
		return nil, "", err
	}
	if len(records) == 1 && records[0].Target == "." {
		return []config.Endpoint{}, "the SRV record of " + n.from.DNS.Name + " says that there is no such service", nil
	}
	slices.SortStableFunc(records, func(a, b *net.SRV) int { return cmp.Compare(a.Priority, b.Priority) })
	if len(records) > targetsMax {
		note = fmt.Sprintf("there are %d SRV records, the first %d are used", len(records), targetsMax)
		records = records[:targetsMax]
	}
	known := map[string][]netip.Addr{}
	var failures error
	for i, rec := range records {
		addresses, fault := n.target(ctx, rec.Target, known)
		failures = errors.Join(failures, fault)
		if endpoints, err = n.at(endpoints, addresses, rec.Target, int(rec.Port)); err != nil {
			return nil, "", err
		}
		last := i == len(records)-1 || records[i+1].Priority != rec.Priority
		if last && len(endpoints) > 0 {
			break
		}
	}
	switch {
	case len(endpoints) > 0:
	case failures != nil:
		return nil, "", failures
	default:
		return nil, "", &net.DNSError{Err: "no target has an address", Name: n.from.DNS.Name, IsNotFound: true}
	}
	n.known = known
	if failures != nil {
		note = "a target keeps the addresses that it had: " + failures.Error()
	}
	return endpoints, note, nil
}

// target returns the addresses of a record's target and notes them in known. One whose lookup fails has
// those that it had; one without addresses has none.
func (n *names) target(ctx context.Context, name string, known map[string][]netip.Addr) ([]netip.Addr, error) {
	if found, ok := known[name]; ok {
		return found, nil
	}
	addresses, err := n.resolver.LookupNetIP(ctx, "ip", name)
	switch {
	case isAbsent(err):
		addresses, err = nil, nil
	case err != nil:
		addresses = n.known[name]
	}
	known[name] = addresses
	return addresses, err
}
