package policy

import (
	"errors"
	"slices"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

// thing is a pooled value that knows whether it was closed and what it took over.
type thing struct {
	closed  int
	adopted []string
}

func poolSet(t *testing.T) (*Set, *Pool[string, *thing]) {
	t.Helper()
	env := &Env{}
	s := New(env)
	return s, NewPool[string](env, func(v *thing) { v.closed++ })
}

func use(t *testing.T, b *Build, p *Pool[string, *thing], key, setting string) *thing {
	t.Helper()
	v, err := Use(b, p, key, func() (*thing, error) { return &thing{}, nil },
		func(v *thing) { v.adopted = append(v.adopted, setting) })
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPoolOutlivesBuilds(t *testing.T) {
	s, p := poolSet(t)
	first := s.Begin(&config.Config{}, Material{})
	a, b := use(t, first, p, "a", "1"), use(t, first, p, "b", "1")
	if use(t, first, p, "a", "1") != a {
		t.Error("one build has two values for a key")
	}
	first.Commit()
	if a.adopted != nil {
		t.Error("a new value adopts what it was made with")
	}

	second := s.Begin(&config.Config{}, Material{})
	for range 2 {
		if use(t, second, p, "a", "2") != a {
			t.Error("the value in force is not used")
		}
	}
	c := use(t, second, p, "c", "2")
	if a.adopted != nil || b.closed != 0 {
		t.Error("a build that is not committed changed what is in force")
	}
	second.Commit()
	if !slices.Equal(a.adopted, []string{"2"}) || a.closed != 0 {
		t.Errorf("adopted %v, closed %d times; want the second setting once and no close", a.adopted, a.closed)
	}
	if b.closed != 1 || c.closed != 0 {
		t.Errorf("closed: b %d, c %d times; b alone is not used any more", b.closed, c.closed)
	}

	third := s.Begin(&config.Config{}, Material{}) // uses nothing
	third.Commit()
	if a.closed != 1 || c.closed != 1 || len(p.All()) != 0 {
		t.Errorf("closed: a %d, c %d times, %d in the pool; nothing is used", a.closed, c.closed, len(p.All()))
	}
}

func TestAbortedBuildLeavesNothing(t *testing.T) {
	s, p := poolSet(t)
	first := s.Begin(&config.Config{}, Material{})
	a := use(t, first, p, "a", "1")
	first.Commit()

	failed := s.Begin(&config.Config{}, Material{})
	use(t, failed, p, "a", "2")
	b := use(t, failed, p, "b", "2")
	fault := errors.New("no")
	if _, err := Use(failed, p, "c", func() (*thing, error) { return nil, fault }, nil); !errors.Is(err, fault) {
		t.Errorf("error %v, want that of making the value", err)
	}
	failed.Abort()
	if b.closed != 1 || a.closed != 0 || a.adopted != nil {
		t.Errorf("b closed %d times, a closed %d times and adopted %v; only what the build made is closed", b.closed,
			a.closed, a.adopted)
	}
	if all := p.All(); len(all) != 1 || all["a"] != a {
		t.Errorf("in force: %v, want a as before", all)
	}
	s.Close()
	if a.closed != 1 {
		t.Errorf("a closed %d times at the end", a.closed)
	}
}
