package filters

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"testing"
)

func exchangeWith(body string) *Exchange {
	x := new(Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(body), nil })
	x.Method, x.Path, x.RawQuery = "POST", "/v1/stock/SKU-1", "a=1&b=x+y%2F&a=2&bad=%zz&empty"
	x.Route, x.Principal, x.Logical.GID = "stock", "anna", "gid0"
	x.Client = netip.MustParseAddr("192.0.2.7")
	x.Params = []Param{{"sku", "SKU-1"}}
	x.Header = Header{{"X-Tenant", "t1"}, {"x-tenant", "t2"}, {"Empty", ""}}
	return x
}

const document = `{"s":"text","n":1.50,"big":12345678901234567890,"t":true,"nil":null,"list":[1,{"a":"deep"}],"o":{"b":2,"a":1},"":"nameless"}`

func TestRefValues(t *testing.T) {
	ref := func(s Source, path ...string) Ref { return Ref{Source: s, Path: path} }
	for _, c := range []struct {
		ref   Ref
		value any
		text  string
		there bool
	}{
		{Ref{}, "anna", "anna", true},
		{ref(FromClientIP), "192.0.2.7", "192.0.2.7", true},
		{ref(FromRoute), "stock", "stock", true},
		{ref(FromMethod), "POST", "POST", true},
		{ref(FromPath), "/v1/stock/SKU-1", "/v1/stock/SKU-1", true},
		{ref(FromPath, "sku"), "SKU-1", "SKU-1", true},
		{ref(FromPath, "id"), "", "", false},
		{ref(FromQuery), "a=1&b=x+y%2F&a=2&bad=%zz&empty", "a=1&b=x+y%2F&a=2&bad=%zz&empty", true},
		{ref(FromQuery, "a"), "1", "1", true},
		{ref(FromQuery, "b"), "x y/", "x y/", true},
		{ref(FromQuery, "bad"), "", "", false},
		{ref(FromQuery, "empty"), "", "", true},
		{ref(FromQuery, "none"), "", "", false},
		{ref(FromHeader, "X-TENANT"), "t1, t2", "t1, t2", true},
		{ref(FromHeader, "Empty"), "", "", true},
		{ref(FromHeader, "None"), "", "", false},
		{ref(FromGID), "gid0", "gid0", true},
		{ref(FromBody, "s"), "text", "text", true},
		{ref(FromBody, "n"), json.Number("1.50"), "1.50", true},
		{ref(FromBody, "big"), json.Number("12345678901234567890"), "12345678901234567890", true},
		{ref(FromBody, "t"), true, "true", true},
		{ref(FromBody, "nil"), nil, "null", true},
		{ref(FromBody, "list"), []any{json.Number("1"), map[string]any{"a": "deep"}}, `[1,{"a":"deep"}]`, true},
		{ref(FromBody, "list", "1", "a"), "deep", "deep", true},
		{ref(FromBody, "list", "2"), nil, "", false},
		{ref(FromBody, "list", "-1"), nil, "", false},
		{ref(FromBody, "o"), map[string]any{"a": json.Number("1"), "b": json.Number("2")}, `{"a":1,"b":2}`, true},
		{ref(FromBody, ""), "nameless", "nameless", true},
		{ref(FromBody, "s", "deeper"), nil, "", false},
		{ref(FromBody, "none"), nil, "", false},
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

func TestRefWithoutTheirParts(t *testing.T) {
	var x Exchange
	for _, r := range []Ref{{Source: FromPrincipal}, {Source: FromClientIP}, {Source: FromGID}, {Source: FromBody, Path: []string{"a"}}} {
		if v, ok := r.Text(&x); ok {
			t.Errorf("%+v of an empty exchange is %q", r, v)
		}
		if v, ok := r.Value(&x); ok {
			t.Errorf("%+v of an empty exchange is %v", r, v)
		}
	}
}

func TestRefBody(t *testing.T) {
	whole := Ref{Source: FromBody}
	member := Ref{Source: FromBody, Path: []string{"a"}}
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

func TestBodyIsLoadedOnce(t *testing.T) {
	loads := 0
	var x Exchange
	x.Begin(t.Context(), func(int64) ([]byte, error) { loads++; return nil, ErrBodyTooLarge })
	for range 3 {
		if _, err := x.Body(); !errors.Is(err, ErrBodyTooLarge) {
			t.Errorf("error is %v", err)
		}
	}
	if _, ok := x.JSON(); ok {
		t.Error("a body that could not be read is a document")
	}
	if _, ok := x.BodyLoaded(); ok || loads != 1 {
		t.Errorf("loaded %v, %d times", ok, loads)
	}
	if s, ok := (Ref{Source: FromBody}).Text(&x); ok {
		t.Errorf("a body that could not be read is %q", s)
	}
}
