package gateway

import (
	"testing"
	"time"
)

// A step of the clock cannot be made here: it changes the wall reading of a time, and the clock
// goes by the monotonic one.
func TestSteadyClock(t *testing.T) {
	begin := time.Now()
	current := begin
	clock := steadyClock(func() time.Time { return current })
	if got := clock(); !got.Equal(begin) {
		t.Errorf("begins at %v, want %v", got, begin)
	}
	current = begin.Add(time.Second)
	if got := clock().Sub(begin); got != time.Second {
		t.Errorf("a second later it has gone on by %v", got)
	}
	clock = steadyClock(time.Now)
	before := time.Now()
	got := clock()
	if wall := got.Round(0).Sub(before.Round(0)); got.Before(before) || wall < -time.Minute || wall > time.Minute {
		t.Errorf("the clock shows %v, the machine's %v", got, before)
	}
}
