package policy

import (
	"github.com/sluice-gateway/sluice/control/config"
)

// Build builds the chains of one configuration. One build of a [Set] is under way at a time; it
// ends with Commit or Abort.
type Build struct {
	Config   *config.Config
	Material Material
	// Prober is what asks a service for an outcome; nil: nobody can be asked.
	Prober ProberOf
	// UnitsOf is what asks a service for the units of an item; nil: nobody can be asked.
	UnitsOf UnitsOf

	set     *Set
	stages  map[pooler]stager
	commits []func()
	shared  map[any]any
}

// Begin begins a build.
func (s *Set) Begin(cfg *config.Config, m Material) *Build {
	b := &Build{Config: cfg, Material: m, set: s, stages: map[pooler]stager{}, shared: map[any]any{}}
	for _, p := range s.env.pools {
		b.stages[p] = p.begin()
	}
	return b
}

// OnCommit has f called when the build is committed.
func (b *Build) OnCommit(f func()) { b.commits = append(b.commits, f) }

// Commit puts what the build uses in force. What it does not use any more is closed; requests of
// the chains before still have it.
func (b *Build) Commit() {
	for _, s := range b.stages {
		s.commit()
	}
	for _, f := range b.commits {
		f()
	}
}

// Abort closes what the build made. What was in force stays in force.
func (b *Build) Abort() {
	for _, s := range b.stages {
		s.abort()
	}
}

// Close closes everything that is in force, when no request runs any more.
func (s *Set) Close() {
	for _, p := range s.env.pools {
		p.CloseAll()
	}
}

// once returns what make returned at its first call of this build for that key, so that the chains
// of a build share it. The key is of a type of the caller's own.
func once[K comparable, V any](b *Build, key K, make func() (V, error)) (V, error) {
	if v, ok := b.shared[key]; ok {
		return v.(V), nil
	}
	v, err := make()
	if err == nil {
		b.shared[key] = v
	}
	return v, err
}
