package filters

import (
	"errors"
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
