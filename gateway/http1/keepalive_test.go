package http1

import (
	"testing"
	"time"
)

func TestKeepAliveField(t *testing.T) {
	for value, want := range map[string]struct {
		idle time.Duration
		uses int
		open bool
	}{
		"":                       {0, 0, true},
		"timeout=5":              {4 * time.Second, 0, true},
		"timeout=1":              {500 * time.Millisecond, 0, true},
		"timeout=5, max=99":      {4 * time.Second, 102, true}, // three exchanges by now
		"max=1,Timeout = 60 , x": {59 * time.Second, 4, true},
		"timeout=0":              {0, 0, false},
		"max=0":                  {0, 3, false},
		"max=0, timeout=5":       {4 * time.Second, 3, false},
		`timeout="10"`:           {9 * time.Second, 0, true},
		"timeout":                {0, 0, true},
		"timeout=":               {0, 0, true},
		"timeout=-1, max=-1":     {0, 0, true},
		"timeout=1e3, maximum=1": {0, 0, true},
		"timeout=2, timeout=8":   {7 * time.Second, 0, true},
		",,=,max=2,":             {0, 5, true},
	} {
		var k keepAlive
		if open := k.read(value, 2); open != want.open || k.idle != want.idle || k.uses != want.uses {
			t.Errorf("%q: idle %s, %d uses, open %v; want %+v", value, k.idle, k.uses, open, want)
		}
	}
	// Who counts down and who always names the same number mean the same.
	var down, same keepAlive
	for used := range 5 {
		down.read("max="+string(rune('9'-used)), used)
		same.read("max=9", used)
	}
	if down.uses != 10 || same.uses != 10 {
		t.Errorf("%d and %d uses, want 10", down.uses, same.uses)
	}
	var huge keepAlive
	if huge.read("timeout=999999999999999, max=999999999999999", 2); huge.idle <= 0 || huge.uses <= 0 {
		t.Errorf("a long time is %s, many are %d", huge.idle, huge.uses)
	}
}
