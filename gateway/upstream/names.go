package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

const (
	addressesMax  = 256              // of a name; beyond, those that come last in order are left out
	lookupTimeout = 10 * time.Second // the system's resolver has its own, which are shorter
	missingEvery  = time.Second      // how often a name is looked up that has no address yet
)

var errNoAddress = errors.New("the name has no address")

// name is a name of endpoints, which a goroutine looks up again and again. All but host, poke and
// done is under the service's mu.
type name struct {
	host string
	poke chan struct{} // how often has changed
	done chan struct{} // the goroutine has ended
	stop context.CancelFunc

	addresses []netip.Addr // in order
	looked    bool         // at least once
	err       error        // of the last lookup
	unused    bool         // the service has no endpoint of that name any more
}

// nameLocked returns the name of a host, which it begins to look up if it is new.
func (s *Service) nameLocked(host string) *name {
	n := s.names[host]
	if n == nil {
		ctx, stop := context.WithCancel(context.Background())
		n = &name{host: host, poke: make(chan struct{}, 1), done: make(chan struct{}), stop: stop}
		s.names[host] = n
		go s.lookUpUntil(ctx, n)
	}
	return n
}

// forgetLocked ends the lookups of names that the endpoints have no more, and returns them.
func (s *Service) forgetLocked(endpoints []config.Endpoint) (ended []*name) {
	for host, n := range s.names {
		if !slices.ContainsFunc(endpoints, func(c config.Endpoint) bool {
			h, _, ok := named(c)
			return ok && h == host
		}) {
			n.unused = true
			n.stop()
			delete(s.names, host)
			ended = append(ended, n)
		}
	}
	return ended
}

// pokeLocked has the names looked up as often as it is configured now.
func (s *Service) pokeLocked() {
	for _, n := range s.names {
		select {
		case n.poke <- struct{}{}:
		default:
		}
	}
}

// targetsLocked returns the addresses of the endpoints, and which names have none, and why; pending
// is whether one of them has not been looked up yet.
func (s *Service) targetsLocked(endpoints []config.Endpoint) (list []target, missing error, pending bool) {
	for _, c := range endpoints {
		host, port, ok := named(c)
		if !ok {
			list = append(list, target{c, c.Address})
			continue
		}
		n := s.nameLocked(host)
		for _, a := range n.addresses {
			list = append(list, target{c, net.JoinHostPort(a.String(), port)})
		}
		if len(n.addresses) == 0 {
			pending = pending || !n.looked
			if n.err != nil {
				missing = errors.Join(missing, n.err)
			}
		}
	}
	return list, missing, pending
}

// lookUpUntil looks a name up until ctx ends. The intervals are up to a tenth shorter than asked
// for, so that not all names are looked up at a time.
func (s *Service) lookUpUntil(ctx context.Context, n *name) {
	defer close(n.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for last := (time.Time{}); ; {
		select {
		case <-ctx.Done():
			return
		case <-n.poke:
		case <-timer.C:
			addresses, err := s.lookUp(ctx, n.host)
			if ctx.Err() != nil {
				return
			}
			s.found(n, addresses, err)
			s.tryCutOff(ctx, n)
			last = time.Now()
		}
		timer.Reset(time.Until(last.Add(s.lookUpAfter(n))))
	}
}

func (s *Service) lookUpAfter(n *name) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.current.Load().settings.DNS
	if len(n.addresses) == 0 {
		d = min(d, missingEvery)
	}
	return d - rand.N(d/10+1)
}

// lookUp returns the addresses of a name in order, each once.
func (s *Service) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := s.dialer.resolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("lookup %s: %w", host, errNoAddress)
	}
	if err != nil {
		return nil, err
	}
	list := make([]netip.Addr, 0, len(found))
	for _, a := range found {
		list = append(list, a.Unmap())
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list), nil
}

// found takes what a lookup returned. One that failed leaves the addresses that the name had.
func (s *Service) found(n *name, addresses []netip.Addr, err error) {
	s.metrics.Lookups.Inc()
	if err != nil {
		s.metrics.LookupFailures.Inc()
	}
	fault := err
	if all := len(addresses); all > addressesMax {
		addresses = addresses[:addressesMax]
		fault = fmt.Errorf("lookup %s: %d addresses, the first %d are used", n.host, all, addressesMax)
	}
	old, now, changed := s.takeAddresses(n, addresses, err)
	if changed {
		s.metrics.Resolved(n.host, old, now)
	}
	if fault != nil {
		s.metrics.LookupFault(n.host, now, fault)
	}
}

func (s *Service) takeAddresses(n *name, addresses []netip.Addr, err error) (old, now []netip.Addr, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old = n.addresses
	if n.unused || s.closed {
		return old, old, false
	}
	first := !n.looked
	n.looked, n.err = true, err
	if err == nil {
		changed = !slices.Equal(old, addresses)
		n.addresses = addresses
	}
	if changed || first || err != nil && len(old) == 0 {
		s.publishLocked(s.current.Load().settings)
	}
	return old, n.addresses, changed
}

// tryCutOff connects to the addresses of a name to which no connection came about: what could not
// be reached for a moment is used again, and no request is spent to find out.
func (s *Service) tryCutOff(ctx context.Context, n *name) {
	c := s.current.Load()
	var tries sync.WaitGroup
	for _, e := range c.endpoints {
		if host, _, ok := named(e.Endpoint); !ok || host != n.host || !e.cutOff.Load() {
			continue
		}
		tries.Go(func() {
			if nc, _, err := s.dialer.dial(ctx, e, nil, c.settings.ConnectTimeout); err == nil {
				nc.Close() // was just made: nothing is lost
				e.cutOff.Store(false)
			}
		})
	}
	tries.Wait()
}
