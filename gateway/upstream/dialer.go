package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
)

// Resolver looks names up. A *[net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Dialer is what the services of a process make connections with: the resolver, and the budget that
// the connections' descriptors are counted in. It knows the services, so that idle connections of
// one give way to those that another needs. It is safe for concurrent use.
type Dialer struct {
	resolver Resolver
	budget   *budget.Budget // nil bounds nothing

	mu       sync.Mutex
	services map[*Service]struct{} // those that are not closed
}

// NewDialer returns a dialer. A nil resolver is the system's, a nil budget bounds nothing.
func NewDialer(r Resolver, b *budget.Budget) *Dialer {
	if r == nil {
		r = net.DefaultResolver
	}
	return &Dialer{resolver: r, budget: b, services: map[*Service]struct{}{}}
}

func (d *Dialer) add(s *Service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.services[s] = struct{}{}
}

func (d *Dialer) remove(s *Service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.services, s)
}

// others returns the services but one.
func (d *Dialer) others(than *Service) []*Service {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*Service, 0, len(d.services))
	for s := range d.services {
		if s != than {
			list = append(list, s)
		}
	}
	return list
}

const (
	evictedMax  = 16                     // idle connections that are closed at a time: it takes a look at all services
	evictedWait = 100 * time.Millisecond // for HTTP/2, which says goodbye

	// acquireTries: behind each some connections have been closed for it; others may be faster, or its
	// account beyond its share.
	acquireTries = 4
)

// account returns the account that a connection is counted for.
func (d *Dialer) account(a *budget.Account) *budget.Account {
	switch {
	case d.budget == nil:
		return nil
	case a == nil:
		return d.budget.Own()
	}
	return a
}

// acquire counts a descriptor for an account. Where there are few left, idle connections are closed
// first, of the service that needs one before those of others.
func (d *Dialer) acquire(s *Service, a *budget.Account) bool {
	if d.budget == nil {
		return true
	}
	for range acquireTries {
		if a.Acquire(budget.Upstreams, 1) {
			return true
		}
		if !d.scarce(scarceShare) || !d.evict(s) {
			return false
		}
	}
	return a.Acquire(budget.Upstreams, 1)
}

// The parts of the descriptors below which those that are left are scarce.
const (
	scarceShare  = 4 // idle ones are closed before a request is refused
	guardedShare = 2 // idle ones that are taken into use are counted for the client
)

// scarce reports whether less than one part of the descriptors is left.
func (d *Dialer) scarce(part int64) bool {
	limit := d.budget.Limit(budget.Upstreams)
	return limit-d.budget.Used(budget.Upstreams) <= limit/part
}

// guarded reports whether connections in use have to be counted for the clients that use them.
func (d *Dialer) guarded() bool { return d.budget != nil && d.scarce(guardedShare) }

// evict closes some idle connections; false when there were none.
func (d *Dialer) evict(s *Service) bool {
	n := s.evict(evictedMax)
	if n > 0 {
		return true
	}
	for _, o := range d.others(s) {
		if n += o.evict(evictedMax - n); n >= evictedMax {
			break
		}
	}
	return n > 0
}

// evict closes at most limit idle connections and returns how many.
func (s *Service) evict(limit int) (n int) {
	for _, e := range s.current.Load().endpoints {
		p := e.pool.Load()
		for n < limit {
			c := p.idle.popOldest()
			if c == nil {
				break
			}
			c.Close()
			n++
		}
		if p.h2 != nil && n < limit {
			n += p.h2.evict(limit - n)
		}
	}
	return n
}

// dial makes a connection to an address, counted for the account until it is closed.
func (d *Dialer) dial(
	ctx context.Context, e *endpoint, a *budget.Account, timeout time.Duration,
) (net.Conn, *descriptor, error) {
	a = d.account(a)
	for again := false; ; again = true {
		if !d.acquire(e.service, a) {
			return nil, nil, ErrOverloaded
		}
		held := &descriptor{account: a}
		nd := net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}
		nc, err := nd.DialContext(ctx, e.Network, e.address)
		switch {
		case err == nil:
			return counted(nc, held), held, nil
		case !ownFault(err):
			held.release()
			return nil, nil, err
		}
		held.release()
		if again || !d.evict(e.service) {
			return nil, nil, errors.Join(ErrOverloaded, err)
		}
	}
}

// ownFault reports whether a connection failed for want of what this machine has: it says nothing of
// the service.
func ownFault(err error) bool {
	return slices.ContainsFunc(ownFaults[:], func(e syscall.Errno) bool { return errors.Is(err, e) })
}

var ownFaults = [...]syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM,
}

// descriptor is a connection's place in the budget.
type descriptor struct {
	mu      sync.Mutex
	account *budget.Account // nil: counted for nobody any more, or in no budget
}

// release gives the place back, once.
func (d *descriptor) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.account != nil {
		d.account.Release(budget.Upstreams, 1)
		d.account = nil
	}
}

// move counts the descriptor for another account; false when that has no room. Then it is counted
// as before, or for nobody when another connection was faster to take the place.
func (d *descriptor) move(to *budget.Account) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	from := d.account
	if from == nil || from == to {
		return true
	}
	from.Release(budget.Upstreams, 1)
	switch {
	case to.Acquire(budget.Upstreams, 1):
		d.account = to
		return true
	case !from.Acquire(budget.Upstreams, 1):
		d.account = nil
	}
	return false
}

// counted reports whether the descriptor is counted, where there is a budget.
func (d *descriptor) counted(in *Dialer) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.account != nil || in.budget == nil
}

// tcpConn and unixConn are connections whose descriptors are counted. What is embedded is not
// hidden: the engines write to the socket itself, and the kernel copies between two of them.
type (
	tcpConn struct {
		*net.TCPConn
		held *descriptor
	}
	unixConn struct {
		*net.UnixConn
		held *descriptor
	}
)

func (c *tcpConn) Close() error {
	defer c.held.release()
	return c.TCPConn.Close()
}

func (c *unixConn) Close() error {
	defer c.held.release()
	return c.UnixConn.Close()
}

func counted(nc net.Conn, held *descriptor) net.Conn {
	switch c := nc.(type) {
	case *net.TCPConn:
		return &tcpConn{c, held}
	case *net.UnixConn:
		return &unixConn{c, held}
	}
	held.release() // no dialer makes another one
	return nc
}
