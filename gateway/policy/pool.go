package policy

import (
	"maps"
	"sync"
)

// Pool holds values that outlive a reload, by typed keys: limiters, breakers, connections to
// services. A key has everything in it that makes the value another one, and nothing else: what may
// change in place is not part of it. It is safe for concurrent use.
type Pool[K comparable, V any] struct {
	close func(V)

	mu      sync.Mutex
	inForce map[K]V
}

// NewPool returns an empty pool that the builds of env commit and abort. close gives back what a
// value holds when no configuration uses it any more; nil: nothing.
func NewPool[K comparable, V any](env *Env, close func(V)) *Pool[K, V] {
	if close == nil {
		close = func(V) {}
	}
	p := &Pool[K, V]{close: close}
	env.pools = append(env.pools, p)
	return p
}

// All returns the values in force by their keys.
func (p *Pool[K, V]) All() map[K]V {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.inForce)
}

// CloseAll closes every value and empties the pool.
func (p *Pool[K, V]) CloseAll() {
	p.replace(nil)
}

func (p *Pool[K, V]) get(key K) (V, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.inForce[key]
	return v, ok
}

// replace puts other values in force and closes those that are not among them.
func (p *Pool[K, V]) replace(with map[K]V) {
	p.mu.Lock()
	old := p.inForce
	p.inForce = with
	p.mu.Unlock()
	for key, v := range old {
		if _, stays := with[key]; !stays {
			p.close(v)
		}
	}
}

func (p *Pool[K, V]) begin() stager { return &stage[K, V]{pool: p, used: map[K]V{}} }

// Use returns the value of the key for this build: the one that the build uses already, else the
// one in force, else a new one. A value in force is passed to adopt when the build is committed, so
// that it takes over what may change in place; nil: nothing may. adopt must not fail: what can be
// wrong is checked by the build.
func Use[K comparable, V any](b *Build, p *Pool[K, V], key K, make func() (V, error), adopt func(V)) (V, error) {
	st := b.stages[p].(*stage[K, V])
	if v, ok := st.used[key]; ok {
		return v, nil
	}
	if v, ok := p.get(key); ok {
		st.used[key] = v
		if adopt != nil {
			b.OnCommit(func() { adopt(v) })
		}
		return v, nil
	}
	v, err := make()
	if err != nil {
		return v, err
	}
	st.used[key] = v
	st.fresh = append(st.fresh, v)
	return v, nil
}

// stage is what a build takes from one pool and adds to it.
type stage[K comparable, V any] struct {
	pool  *Pool[K, V]
	used  map[K]V
	fresh []V
}

// stager is a stage of any types, pooler a pool of any.
type (
	stager interface {
		commit()
		abort()
	}
	pooler interface {
		begin() stager
		CloseAll()
	}
)

func (s *stage[K, V]) commit() { s.pool.replace(s.used) }

func (s *stage[K, V]) abort() {
	for _, v := range s.fresh {
		s.pool.close(v)
	}
}
