package waitingroom

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// TestTickets: a ticket is good for its principal, sale, opening and time, and for nothing else.
func TestTickets(t *testing.T) {
	secret := []byte("secret")
	s := newSigner(secret, "sale", opening)
	for _, tk := range []ticket{
		{kind: early, expires: opening.Unix() + 10},
		{kind: queued, number: 1 << 40, served: 7, expires: opening.Unix() + 10},
		{kind: passed, expires: opening.Unix() + 10},
	} {
		text := string(s.appendTicket(nil, tk, "ann"))
		if got, ok := s.read(text, "ann", opening); !ok || got != tk {
			t.Errorf("%+v was read as %+v, %v", tk, got, ok)
		}
		for name, refused := range map[string]func() (ticket, bool){
			"another principal": func() (ticket, bool) { return s.read(text, "bob", opening) },
			"no principal":      func() (ticket, bool) { return s.read(text, "", opening) },
			"later":             func() (ticket, bool) { return s.read(text, "ann", at(10*time.Second)) },
			"another sale": func() (ticket, bool) {
				return newSigner(secret, "other", opening).read(text, "ann", opening)
			},
			"a part of the name": func() (ticket, bool) {
				return newSigner(secret, "salea", opening).read(text, "nn", opening)
			},
			"another secret": func() (ticket, bool) {
				return newSigner([]byte("secres"), "sale", opening).read(text, "ann", opening)
			},
		} {
			if got, ok := refused(); ok {
				t.Errorf("%s: %+v was read", name, got)
			}
		}
		_, ok := newSigner(secret, "sale", at(time.Hour)).read(text, "ann", opening)
		if ok != (tk.kind == early) {
			t.Errorf("of a sale that was put off, %+v is good: %v", tk, ok)
		}
	}
}

// TestForgery: no change of one character makes another ticket.
func TestForgery(t *testing.T) {
	s := newSigner([]byte("secret"), "sale", opening)
	text := s.appendTicket(nil, ticket{kind: queued, number: 99, expires: opening.Unix() + 10}, "ann")
	for i := range text {
		for _, c := range []byte("Aa09-_=/+ \n\x00\xff") {
			forged := slices.Clone(text)
			forged[i] = c
			if string(forged) == string(text) {
				continue
			}
			if got, ok := s.read(string(forged), "ann", opening); ok {
				t.Errorf("%s was read as %+v", forged, got)
			}
		}
	}
}

// FuzzTicket: no text is read but one that was signed.
func FuzzTicket(f *testing.F) {
	s := newSigner([]byte("secret"), "sale", opening)
	good := string(s.appendTicket(nil, ticket{kind: passed, expires: opening.Unix() + 10}, "ann"))
	f.Add(good, "bob")
	f.Add(strings.Repeat("A", ticketText), "ann")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, text, principal string) {
		if got, ok := s.read(text, principal, opening); ok && (text != good || principal != "ann") {
			t.Errorf("%q of %q was read as %+v", text, principal, got)
		}
	})
}

// FuzzCookies: whatever stands in the field, values are parts of it.
func FuzzCookies(f *testing.F) {
	f.Add("a=1; t=2;t=3 ; tt=4; t; =t; t=a=b")
	f.Fuzz(func(t *testing.T, field string) {
		cookies(filters.Header{{Name: "cookie", Value: field}}, "t", func(value string) bool {
			if !strings.Contains(field, value) || strings.Contains(value, ";") {
				t.Errorf("%q in %q", value, field)
			}
			return true
		})
	})
}

func TestCookies(t *testing.T) {
	var got []string
	h := filters.Header{{Name: "Cookie", Value: "a=1; t=2;t=3 ; tt=4; t; =t; t=a=b"}, {Name: "cookie", Value: "t=5"}}
	cookies(h, "t", func(v string) bool { got = append(got, v); return true })
	if want := []string{"2", "3", "", "a=b", "5"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestPlaces: a principal is remembered until its ticket expires, and the memory is bounded.
func TestPlaces(t *testing.T) {
	var p places
	if _, ok := p.get("ann", 0); ok {
		t.Error("nobody is remembered yet")
	}
	p.put("ann", ticket{kind: queued, number: 5, expires: 100})
	p.put("ann", ticket{kind: queued, number: 6, expires: 100})
	if got, ok := p.get("ann", 99); !ok || got.number != 6 {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := p.get("ann", 100); ok {
		t.Error("an expired ticket is remembered")
	}
	for i := range 10 * placesMax {
		p.put(time.Duration(i).String(), ticket{kind: early, expires: 1000 + int64(i)})
	}
	if len(p.spots) != placesMax {
		t.Errorf("%d spots", len(p.spots))
	}
	if _, ok := p.get(time.Duration(10*placesMax-1).String(), 0); !ok {
		t.Error("the last one is forgotten")
	}
}
