package ref_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

func exchangeWith(body string) *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(body), nil })
	x.Method, x.Path, x.RawQuery = "POST", "/v1/stock/SKU-1", "a=1&b=x+y%2F&a=2&bad=%zz&empty"
	x.Host = "Shop.Example.:8443"
	x.Route, x.Principal, x.Logical.GID = "stock", "anna", "gid0"
	x.Client = netip.MustParseAddr("192.0.2.7")
	x.Params = []filters.Param{{Name: "sku", Value: "SKU-1"}}
	x.Header = filters.Header{{Name: "X-Tenant", Value: "t1"}, {Name: "x-tenant", Value: "t2"}, {Name: "Empty"}}
	return x
}

const document = `{"s":"text","n":1.50,"big":12345678901234567890,"t":true,"nil":null,` +
	`"list":[1,{"a":"deep"}],"o":{"b":2,"a":1},"":"nameless"}`

func TestValues(t *testing.T) {
	of := func(root string, path ...string) ref.Ref { return ref.Ref{Root: root, Path: path} }
	for _, c := range []struct {
		ref   ref.Ref
		value any
		text  string
		there bool
	}{
		{of(ref.Principal), "anna", "anna", true},
		{of(ref.ClientIP), "192.0.2.7", "192.0.2.7", true},
		{of(ref.Host), "shop.example", "shop.example", true},
		{of(ref.Route), "stock", "stock", true},
		{of(ref.Method), "POST", "POST", true},
		{of(ref.Path), "/v1/stock/SKU-1", "/v1/stock/SKU-1", true},
		{of(ref.Path, "sku"), "SKU-1", "SKU-1", true},
		{of(ref.Path, "id"), "", "", false},
		{of(ref.Query), "a=1&b=x+y%2F&a=2&bad=%zz&empty", "a=1&b=x+y%2F&a=2&bad=%zz&empty", true},
		{of(ref.Query, "a"), "1", "1", true},
		{of(ref.Query, "b"), "x y/", "x y/", true},
		{of(ref.Query, "bad"), "", "", false},
		{of(ref.Query, "empty"), "", "", true},
		{of(ref.Query, "none"), "", "", false},
		{of(ref.Header, "X-TENANT"), "t1, t2", "t1, t2", true},
		{of(ref.Header, "Empty"), "", "", true},
		{of(ref.Header, "None"), "", "", false},
		{of(ref.GID), "gid0", "gid0", true},
		{of(ref.Body, "s"), "text", "text", true},
		{of(ref.Body, "n"), json.Number("1.50"), "1.50", true},
		{of(ref.Body, "big"), json.Number("12345678901234567890"), "12345678901234567890", true},
		{of(ref.Body, "t"), true, "true", true},
		{of(ref.Body, "nil"), nil, "null", true},
		{of(ref.Body, "list"), []any{json.Number("1"), map[string]any{"a": "deep"}}, `[1,{"a":"deep"}]`, true},
		{of(ref.Body, "list", "1", "a"), "deep", "deep", true},
		{of(ref.Body, "list", "2"), nil, "", false},
		{of(ref.Body, "list", "-1"), nil, "", false},
		{of(ref.Body, "o"), map[string]any{"a": json.Number("1"), "b": json.Number("2")}, `{"a":1,"b":2}`, true},
		{of(ref.Body, ""), "nameless", "nameless", true},
		{of(ref.Body, "s", "deeper"), nil, "", false},
		{of(ref.Body, "none"), nil, "", false},
	} {
		x := exchangeWith(document)
		v, ok := c.ref.Value(x)
		if ok != c.there || ok && !reflect.DeepEqual(v, c.value) {
			t.Errorf("%+v: value %#v %v, want %#v %v", c.ref, v, ok, c.value, c.there)
		}
		text, ok := c.ref.Text(x)
		if ok != c.there || text != c.text {
			t.Errorf("%+v: text %q %v, want %q %v", c.ref, text, ok, c.text, c.there)
		}
	}
}

// TestHost: however a client writes the host, it is one and the same.
func TestHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"shop.example": "shop.example", "SHOP.example:80": "shop.example", "shop.example.:1234": "shop.example",
		"192.0.2.7:8080": "192.0.2.7", "[::1]": "::1", "[0:0::1]:443": "::1", "[2001:DB8::1]": "2001:db8::1",
		"": "", ":80": "", "[x]": "", "[": "",
	} {
		x := exchangeWith("")
		x.Host = host
		if got, ok := (ref.Ref{Root: ref.Host}).Text(x); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", host, got, ok, want)
		}
	}
}

func TestPartsThatAreNotThere(t *testing.T) {
	var x filters.Exchange
	for _, r := range []ref.Ref{{Root: ref.Principal}, {Root: ref.ClientIP}, {Root: ref.GID}, {Root: ref.Body,
		Path: []string{"a"}}} {
		if v, ok := r.Text(&x); ok {
			t.Errorf("%+v of an empty exchange is %q", r, v)
		}
		if v, ok := r.Value(&x); ok {
			t.Errorf("%+v of an empty exchange is %v", r, v)
		}
	}
}

func TestBody(t *testing.T) {
	whole := ref.Ref{Root: ref.Body}
	member := ref.Ref{Root: ref.Body, Path: []string{"a"}}
	for _, c := range []struct {
		body     string
		value    any
		document bool
	}{
		{`{"a":1}`, map[string]any{"a": json.Number("1")}, true},
		{" [1] \n", []any{json.Number("1")}, true},
		{`a=1&b=2`, `a=1&b=2`, false},
		{`{"a":1} {"a":2}`, `{"a":1} {"a":2}`, false},
		{`{"a":1}}`, `{"a":1}}`, false},
		{`{"a":1}]`, `{"a":1}]`, false},
		{`{"a":1},`, `{"a":1},`, false},
		{`{"a":1`, `{"a":1`, false},
		{`null`, `null`, false},
		{``, ``, false},
	} {
		x := exchangeWith(c.body)
		if v, ok := whole.Value(x); !ok || !reflect.DeepEqual(v, c.value) {
			t.Errorf("body %q: value %#v %v, want %#v", c.body, v, ok, c.value)
		}
		if s, ok := whole.Text(x); !ok || s != c.body {
			t.Errorf("body %q: text %q %v", c.body, s, ok)
		}
		if _, ok := x.JSON(); ok != c.document {
			t.Errorf("body %q: a document: %v, want %v", c.body, ok, c.document)
		}
		if _, isMap := c.value.(map[string]any); !isMap {
			if v, ok := member.Value(x); ok {
				t.Errorf("body %q: member is %v", c.body, v)
			}
		}
	}
}

// TestUnreadableBody: a body that could not be read has no value, and neither has a member of it.
func TestUnreadableBody(t *testing.T) {
	var x filters.Exchange
	x.Begin(t.Context(), func(int64) ([]byte, error) { return nil, filters.ErrBodyTooLarge })
	for _, r := range []ref.Ref{{Root: ref.Body}, {Root: ref.Body, Path: []string{"a"}}} {
		if s, ok := r.Text(&x); ok {
			t.Errorf("the text of %s is %q", r, s)
		}
		if v, ok := r.Value(&x); ok {
			t.Errorf("the value of %s is %v", r, v)
		}
	}
}

// TestEveryRootIsEvaluated: the words of the language and those that the exchange knows are the same.
func TestEveryRootIsEvaluated(t *testing.T) {
	x := exchangeWith(document)
	x.Logical.Key = "key0"
	for _, text := range []string{
		"principal", "client.ip", "host", "route", "method", "path", "path.sku", "query", "query.a", "header.X-Tenant",
		"body", "body.s", "gid", "key",
	} {
		r, err := ref.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := r.Text(x); !ok || v == "" {
			t.Errorf("%s is %q, %v", text, v, ok)
		}
	}
	for _, r := range []ref.Ref{{}, {Root: ref.Steps, Path: []string{"pay", "id"}}, {Root: "none"}} {
		if v, ok := r.Text(x); ok {
			t.Errorf("%q is %q", r, v)
		}
	}
}

// TestEvaluationAllocatesNothing but for what is made of the body.
func TestEvaluationAllocatesNothing(t *testing.T) {
	x := exchangeWith(document)
	refs := []ref.Ref{
		{Root: ref.Principal}, {Root: ref.Route}, {Root: ref.Method}, {Root: ref.Path}, {Root: ref.Path,
			Path: []string{"sku"}},
		{Root: ref.Query}, {Root: ref.GID}, {Root: ref.Body, Path: []string{"s"}}, {Root: ref.Body,
			Path: []string{"n"}},
	}
	allocs := testing.AllocsPerRun(100, func() {
		for _, r := range refs {
			if _, ok := r.Text(x); !ok {
				t.Fatalf("%s is not there", r)
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
