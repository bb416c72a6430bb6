package sale

import (
	"testing"
	"time"
)

var start = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

// TestEndOf: what a record says of a unit.
func TestEndOf(t *testing.T) {
	unit := func(s State) Unit { return Unit{Created: 7, State: s, Taken: start, TTL: time.Minute} }
	answered := func(status int) Record { return Record{true, 7, Answered, status} }
	const stay End = 0
	for name, c := range map[string]struct {
		unit  Unit
		rec   Record
		after time.Duration
		want  End
	}{
		"it runs":                           {unit(Reserved), Record{true, 7, Runs, 0}, time.Hour, stay},
		"it runs once more":                 {unit(Unknown), Record{true, 7, Runs, 0}, time.Hour, stay},
		"201":                               {unit(Reserved), answered(201), 0, Confirm},
		"200 after all":                     {unit(Unknown), answered(200), time.Hour, Confirm},
		"303":                               {unit(Reserved), answered(303), 0, Return},
		"402":                               {unit(Reserved), answered(402), 0, Return},
		"409 after all":                     {unit(Unknown), answered(409), time.Hour, Return},
		"402, and it came back":             {unit(Returned), answered(402), time.Hour, stay},
		"200 though it came back":           {unit(Returned), answered(200), 0, Confirm},
		"unknown":                           {unit(Reserved), Record{true, 7, NotKnown, 0}, 0, Hold},
		"still unknown":                     {unit(Unknown), Record{true, 7, NotKnown, 0}, 0, stay},
		"the key is free":                   {unit(Reserved), Record{}, time.Minute - 1, Free},
		"the key of an unknown one is":      {unit(Unknown), Record{}, time.Minute - 1, Free},
		"the record may have expired":       {unit(Reserved), Record{}, time.Minute, Hold},
		"that of an unknown one":            {unit(Unknown), Record{}, time.Minute, stay},
		"that of one that came back":        {unit(Returned), Record{}, time.Hour, Free},
		"the key is another request's":      {unit(Reserved), Record{true, 8, Runs, 0}, 0, Free},
		"perhaps since the first's expired": {unit(Reserved), Record{true, 8, Answered, 200}, time.Minute, Hold},
		"the clock was set back":            {unit(Reserved), Record{}, -time.Hour, Free},
	} {
		got, ok := EndOf(&c.unit, c.rec, start.Add(c.after))
		if !ok {
			got = stay
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestDecideAfterExpiry: the units of a record that may have expired stay taken when its key comes again.
func TestDecideAfterExpiry(t *testing.T) {
	r := TakeRequest{ID: "a", Token: 2, Created: 8, Quantity: 1, TTL: time.Minute, Total: 5}
	old := Unit{ID: "a", Token: 1, Created: 7, Quantity: 2, State: Reserved, Taken: start, TTL: time.Minute}
	next, change, v := Decide(&old, Counts{Taken: 2}, 2, &r, start.Add(time.Minute))
	if want := (Change{Taken: 1, Confirmed: 2, New: true}); v != Taken || next.Past != 2 || change != want {
		t.Errorf("after its TTL: %+v, %+v, %d", next, change, v)
	}
	next, change, v = Decide(&old, Counts{Taken: 2}, 2, &r, start.Add(time.Minute-1))
	if want := (Change{Taken: -1, New: true}); v != Taken || next.Past != 0 || change != want {
		t.Errorf("before: %+v, %+v, %d", next, change, v)
	}
}

// TestDecideWithAnotherTTL: a further attempt by other settings leaves the record a shorter life, and the unit with it.
func TestDecideWithAnotherTTL(t *testing.T) {
	old := Unit{ID: "a", Token: 1, Created: 7, Quantity: 1, State: Unknown, Taken: start, TTL: time.Hour}
	r := TakeRequest{ID: "a", Token: 2, Created: 7, Quantity: 1, TTL: time.Minute, Total: 1}
	next, _, v := Decide(&old, Counts{Taken: 1, Unknown: 1}, 1, &r, start.Add(time.Second))
	if v != Taken || next.TTL != time.Minute {
		t.Errorf("%+v, %d", next, v)
	}
	if end, ok := EndOf(&next, Record{}, start.Add(2*time.Minute)); !ok || end != Hold {
		t.Errorf("the record may have expired, and the unit ends with %d, %v", end, ok)
	}
}

func TestWholeNumber(t *testing.T) {
	for text, want := range map[string]int{
		"1": 1, "42": 42, "2.0": 2, "2e0": 2, "1.5e1": 15, "1e400": quantityMax, "99999999999999999999": quantityMax,
		"0": 0, "-1": 0, "1.5": 0, "": 0, "01": 0, "+1": 0, "0x10": 0, "1_0": 0, "Inf": 0, "NaN": 0, "1e": 0, "1-1": 0,
		" 1": 0, "1 ": 0, "\u0661": 0, "1e-1": 0,
	} {
		if got, ok := wholeNumber(text); got != want || ok != (want > 0) {
			t.Errorf("%q: %d, %v; want %d", text, got, ok, want)
		}
	}
}
