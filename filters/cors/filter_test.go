package cors

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
)

var shop = Settings{Origins: []string{"https://shop.example", "https://*.shop.example", "http://localhost:3000"},
	Credentials: true, Expose: []string{"X-Order-Id"}, MaxAge: 10 * time.Minute}

func newExchange(method string, fields ...string) *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Method = method
	for i := 0; i < len(fields); i += 2 {
		x.Header.Add(fields[i], fields[i+1])
	}
	return x
}

func TestConform(t *testing.T) {
	for name, fields := range map[string][]string{
		"passes":   {"Origin", "https://shop.example"},
		"answered": {"Origin", "https://shop.example", "Access-Control-Request-Method", "POST"},
		"refused":  {"Origin", "https://evil.example", "Access-Control-Request-Method", "POST"},
	} {
		t.Run(name, func(t *testing.T) {
			filtertest.Conform(t, func(*testing.T) (filters.Filter, func(*filters.Exchange)) {
				return New(shop, filters.Discard, filters.Discard), func(x *filters.Exchange) {
					x.Method = "OPTIONS"
					for i := 0; i < len(fields); i += 2 {
						x.Header.Add(fields[i], fields[i+1])
					}
				}
			})
		})
	}
}

func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		origins []string
		origin  string
		want    string
	}{
		{shop.Origins, "https://shop.example", "https://shop.example"},
		{shop.Origins, "https://a.shop.example", "https://a.shop.example"},
		{shop.Origins, "https://a.b.shop.example", "https://a.b.shop.example"},
		{shop.Origins, "http://localhost:3000", "http://localhost:3000"},
		{shop.Origins, "http://localhost", ""},
		{shop.Origins, "http://shop.example", ""},
		{shop.Origins, "https://shop.example:8443", ""},
		{shop.Origins, "https://a.shop.example:8443", ""},
		{shop.Origins, "https://.shop.example", ""},
		{shop.Origins, "https://evil-shop.example", ""},
		{shop.Origins, "https://evil.example/.shop.example", ""},
		{shop.Origins, "https://evil.example:1.shop.example", ""},
		{shop.Origins, "https://me@a.shop.example", ""},
		{shop.Origins, "https://shop.example, https://shop.example", ""},
		{shop.Origins, "null", ""},
		{shop.Origins, "", ""},
		{[]string{"null"}, "null", "null"},
		{[]string{"*"}, "https://any.example", "*"},
		{[]string{"*"}, "", ""},
	} {
		if got := newRules(Settings{Origins: c.origins}).allow(c.origin); got != c.want {
			t.Errorf("%q of %v: %q, want %q", c.origin, c.origins, got, c.want)
		}
	}
}

func TestPreflight(t *testing.T) {
	f := New(shop, filters.Discard, filters.Discard)
	x := newExchange("OPTIONS", "Origin", "https://shop.example", "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "content-type,idempotency-key")
	r := f.Request(x, new(filters.Slot))
	if r == nil || r.Status != 204 || r.Reason != "" {
		t.Fatalf("reply %+v", r)
	}
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":      "https://shop.example",
		"Access-Control-Allow-Methods":     "POST",
		"Access-Control-Allow-Headers":     "content-type,idempotency-key",
		"Access-Control-Allow-Credentials": "true",
		"Access-Control-Max-Age":           "600",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, fields := range []string{"a\x00b", "a\"b", strings.Repeat("a", requestedBytesMax+1)} {
		x := newExchange("OPTIONS", "Origin", "https://shop.example", "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", fields)
		if r := f.Request(x, new(filters.Slot)); r.Header.Count("Access-Control-Allow-Headers") != 0 {
			t.Errorf("the fields %.20q are repeated", fields)
		}
	}
	denied := newExchange("OPTIONS", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
	if r := f.Request(denied, new(filters.Slot)); r == nil || r.Reason != filters.Forbidden ||
		r.Header.Count("Access-Control-Allow-Origin") != 0 {
		t.Errorf("another origin gets %+v", r)
	}
	for _, x := range []*filters.Exchange{
		newExchange("OPTIONS", "Origin", "https://shop.example"),
		newExchange("OPTIONS", "Access-Control-Request-Method", "POST"),
		newExchange("POST", "Origin", "https://shop.example", "Access-Control-Request-Method", "POST"),
	} {
		if r := f.Request(x, new(filters.Slot)); r != nil {
			t.Errorf("%s %v is taken for a preflight", x.Method, x.Header)
		}
	}
}

func TestResponse(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings Settings
		origin   string
		before   filters.Header
		want     filters.Header
	}{
		{"an origin", shop, "https://shop.example", nil, filters.Header{
			{Name: "Vary", Value: "Origin"}, {Name: "Access-Control-Allow-Origin", Value: "https://shop.example"},
			{Name: "Access-Control-Allow-Credentials", Value: "true"},
			{Name: "Access-Control-Expose-Headers", Value: newRules(shop).expose}}},
		{"another origin", shop, "https://evil.example", filters.Header{
			{Name: "access-control-allow-origin", Value: "*"}, {Name: "X-A", Value: "b"}}, filters.Header{
			{Name: "X-A", Value: "b"}, {Name: "Vary", Value: "Origin"}}},
		{"none", shop, "", nil, filters.Header{{Name: "Vary", Value: "Origin"}}},
		{"every origin", Settings{Origins: []string{"*"}}, "https://a.example",
			filters.Header{{Name: "Access-Control-Allow-Origin", Value: "https://other.example"}}, filters.Header{
				{Name: "Access-Control-Allow-Origin", Value: "*"},
				{Name: "Access-Control-Expose-Headers", Value: newRules(Settings{}).expose}}},
		{"Vary has it", shop, "", filters.Header{{Name: "vary", Value: "Accept, ORIGIN"}}, filters.Header{
			{Name: "vary", Value: "Accept, ORIGIN"}}},
	} {
		x := newExchange("GET")
		if c.origin != "" {
			x.Header.Add("Origin", c.origin)
		}
		x.Response.Header = c.before
		New(c.settings, filters.Discard, filters.Discard).Response(x, new(filters.Slot))
		if !slices.Equal(x.Response.Header, c.want) {
			t.Errorf("%s:\n%v, want\n%v", c.name, x.Response.Header, c.want)
		}
	}
	if e := newRules(shop).expose; !strings.HasSuffix(e, ", X-Order-Id") || !strings.Contains(e, "Retry-After") {
		t.Errorf("exposed: %s", e)
	}
}

func TestResponseAllocatesNothing(t *testing.T) {
	f := New(shop, filters.Discard, filters.Discard)
	x := newExchange("GET", "Origin", "https://shop.example")
	x.Response.Header = make(filters.Header, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		x.Response.Header = x.Response.Header[:0]
		f.Request(x, new(filters.Slot))
		f.Response(x, new(filters.Slot))
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
