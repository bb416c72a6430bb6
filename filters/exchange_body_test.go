package filters

import (
	"errors"
	"strconv"
	"strings"
	"testing"
)

func TestBodyIsLoadedOnce(t *testing.T) {
	loads := 0
	var x Exchange
	x.Begin(t.Context(), func(int64) ([]byte, error) { loads++; return nil, ErrBodyTooLarge })
	for range 3 {
		if _, err := x.Body(); !errors.Is(err, ErrBodyTooLarge) {
			t.Errorf("error is %v", err)
		}
	}
	if v, ok, err := x.Member(nil); ok || !errors.Is(err, ErrBodyTooLarge) {
		t.Errorf("a body that could not be read is the document %q, %v", v, err)
	}
	if _, ok := x.BodyLoaded(); ok || loads != 1 {
		t.Errorf("loaded %v, %d times", ok, loads)
	}
}

// TestMembersAreReadInOnePass: what a chain declares is looked up without an allocation and without another pass, by
// however many filters; what it does not declare is found all the same.
func TestMembersAreReadInOnePass(t *testing.T) {
	var declared [][]string
	for i := range 50 {
		declared = append(declared, []string{"m" + strconv.Itoa(i), "v"})
	}
	c, err := NewChain(func(*Exchange, string, any, []byte) {},
		&script{name: "a", needs: Needs{RequestBody: true, Members: declared[:20]}},
		&script{name: "b", needs: Needs{RequestBody: true, Members: declared[10:30]}})
	if err != nil {
		t.Fatal(err)
	}
	c.Declare(declared[30:]...)
	body := []byte(`{"m0":{"v":"first"},"m7":{"v":[7]},"m49":{"v":null},"x":[` +
		strings.Repeat("[0],", 100_000) + `1]}`)
	var x Exchange
	load := func(int64) ([]byte, error) { return body, nil }
	ctx := t.Context()
	x.Begin(ctx, load)
	c.Request(&x)
	lookUp := func() {
		found := 0
		for _, path := range declared {
			_, ok, err := x.Member(path)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				found++
			}
		}
		if found != 3 {
			t.Fatalf("%d members, want 3", found)
		}
	}
	lookUp()
	if n := testing.AllocsPerRun(10, lookUp); n != 0 {
		t.Errorf("%v allocations", n)
	}
	body[2] = 'n' // what is read again is not what was read: this pass alone would miss it
	if v, ok, err := x.Member([]string{"m0", "v"}); string(v) != `"first"` || !ok || err != nil {
		t.Errorf("another pass: %q, %v, %v", v, ok, err)
	}
	if v, ok, err := x.Member([]string{"n0", "v"}); string(v) != `"first"` || !ok || err != nil {
		t.Errorf("a member that was not declared: %q, %v, %v", v, ok, err)
	}
	x.Begin(ctx, load)
	c.Request(&x)
	if _, ok, err := x.Member([]string{"m0", "v"}); ok || err != nil {
		t.Errorf("the next request has the members of this one: %v, %v", ok, err)
	}
}
