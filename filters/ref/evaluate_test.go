package ref_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

func exchangeWith(body string) *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(body), nil })
	x.Method, x.Path, x.RawQuery = "POST", "/v1/stock/SKU-1", "a=1&b=x+y%2F&%61=1&bad=%zz&empty"
	x.Host = "Shop.Example.:8443"
	x.Route, x.Principal, x.Logical.GID = "stock", "anna", "gid0"
	x.Client = netip.MustParseAddr("192.0.2.7")
	x.Params = []filters.Param{{Name: "sku", Value: "SKU-1"}}
	x.Header = filters.Header{{Name: "X-Tenant", Value: "t1"}, {Name: "x-tenant", Value: "t1"}, {Name: "Empty"}}
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
		{of(ref.Query), "a=1&b=x+y%2F&%61=1&bad=%zz&empty", "a=1&b=x+y%2F&%61=1&bad=%zz&empty", true},
		{of(ref.Query, "a"), "1", "1", true},
		{of(ref.Query, "b"), "x y/", "x y/", true},
		{of(ref.Query, "bad"), "", "", false},
		{of(ref.Query, "empty"), "", "", true},
		{of(ref.Query, "none"), "", "", false},
		{of(ref.Header, "X-TENANT"), "t1", "t1", true},
		{of(ref.Header, "Empty"), "", "", true},
		{of(ref.Header, "None"), "", "", false},
		{of(ref.GID), "gid0", "gid0", true},
		{of(ref.Body, "s"), "text", "text", true},
		{of(ref.Body, "n"), json.Number("1.50"), "1.50", true},
		{of(ref.Body, "big"), json.Number("12345678901234567890"), "12345678901234567890", true},
		{of(ref.Body, "t"), true, "true", true},
		{of(ref.Body, "nil"), nil, "null", true},
		{of(ref.Body, "list"), json.RawMessage(`[1,{"a":"deep"}]`), `[1,{"a":"deep"}]`, true},
		{of(ref.Body, "list", "1", "a"), "deep", "deep", true},
		{of(ref.Body, "list", "2"), nil, "", false},
		{of(ref.Body, "list", "-1"), nil, "", false},
		{of(ref.Body, "o"), json.RawMessage(`{"b":2,"a":1}`), `{"b":2,"a":1}`, true},
		{of(ref.Body, ""), "nameless", "nameless", true},
		{of(ref.Body, "s", "deeper"), nil, "", false},
		{of(ref.Body, "none"), nil, "", false},
	} {
		x := exchangeWith(document)
		v, ok, err := c.ref.Value(x)
		if err != nil || ok != c.there || ok && !reflect.DeepEqual(v, c.value) {
			t.Errorf("%+v: value %#v %v, want %#v %v", c.ref, v, ok, c.value, c.there)
		}
		text, ok, err := c.ref.Text(x)
		if err != nil || ok != c.there || text != c.text {
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
		if got, ok, err := (ref.Ref{Root: ref.Host}).Text(x); got != want || err != nil || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", host, got, ok, want)
		}
	}
}

func TestPartsThatAreNotThere(t *testing.T) {
	var x filters.Exchange
	for _, r := range []ref.Ref{{Root: ref.Principal}, {Root: ref.ClientIP}, {Root: ref.GID}, {Root: ref.Body,
		Path: []string{"a"}}} {
		if v, ok, err := r.Text(&x); ok || err != nil {
			t.Errorf("%+v of an empty exchange is %q", r, v)
		}
		if v, ok, err := r.Value(&x); ok || err != nil {
			t.Errorf("%+v of an empty exchange is %v", r, v)
		}
	}
}

// TestBody: a body is what it is as text, and in a template that is one reference the document that it holds. What
// begins as JSON and is not exactly one document is the client's fault, for the members too.
func TestBody(t *testing.T) {
	whole := ref.Ref{Root: ref.Body}
	member := ref.Ref{Root: ref.Body, Path: []string{"a"}}
	for _, c := range []struct {
		body  string
		value any
		fault string // for the client
	}{
		{`{"a":1}`, json.RawMessage(`{"a":1}`), ""},
		{"\xef\xbb\xbf{\"a\" : 1}", json.RawMessage(`{"a":1}`), ""},
		{" [1, 2] \n", json.RawMessage("[1,2]"), ""},
		{"1.50", json.Number("1.50"), ""},
		{`"a\u0062"`, "ab", ""},
		{`null`, nil, ""},
		{`a=1&b=2`, `a=1&b=2`, ""},
		{`n=1`, `n=1`, ""},
		{`7=1`, `7=1`, ""},
		{``, ``, ""},
		{`{"a":1} {"a":2}`, nil, "The body holds more than one JSON document."},
		{"1\n2", nil, "The body holds more than one JSON document."},
		{`{"a":1}}`, nil, "The body holds more than one JSON document."},
		{`{"a":1}]`, nil, "The body holds more than one JSON document."},
		{`{"a":1},`, nil, "The body holds more than one JSON document."},
		{`{"a":1`, nil, "The body is not well-formed JSON."},
		{"{\"a\":\"\xff\"}", nil, "The body is not UTF-8."},
	} {
		x := exchangeWith(c.body)
		v, ok, err := whole.Value(x)
		if detail(err) != c.fault || ok != (c.fault == "") || !reflect.DeepEqual(v, c.value) {
			t.Errorf("body %q: value %#v %v %v, want %#v", c.body, v, ok, err, c.value)
		}
		if s, ok, err := whole.Text(x); !ok || err != nil || s != c.body {
			t.Errorf("body %q: text %q %v", c.body, s, err)
		}
		_, ok, err = member.Value(x)
		if _, isMessage := c.value.(json.RawMessage); detail(err) != c.fault || ok != (isMessage && c.body[0] != ' ') {
			t.Errorf("body %q: member %v, %v", c.body, ok, err)
		}
	}
}

func detail(err error) string {
	var fault *ref.FaultError
	if errors.As(err, &fault) {
		return fault.Detail()
	}
	return ""
}

// TestFaultsOfMembers: a member that can be read in more than one way is an error by its own name, and so are those
// below it; a member beside it is not.
func TestFaultsOfMembers(t *testing.T) {
	x := exchangeWith(`{"a":{"x":1},"b":"\ud800","c":2,"a":{"x":2}}`)
	for _, c := range []struct{ ref, fault string }{
		{"body.a", "body.a comes twice with different values."},
		{"body.a.x", "body.a.x comes twice with different values."},
		{"body.b", "body.b has half of a surrogate pair."},
		{"body.c", ""},
		{"body.none", ""},
	} {
		r, err := ref.Parse(c.ref)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Text(x); detail(err) != c.fault {
			t.Errorf("%s: %v", c.ref, err)
		}
		if _, _, err := r.Value(x); detail(err) != c.fault {
			t.Errorf("%s: %v", c.ref, err)
		}
	}
}

// TestUnreadableBody: a body that could not be read is an error, for its members too.
func TestUnreadableBody(t *testing.T) {
	var x filters.Exchange
	x.Begin(t.Context(), func(int64) ([]byte, error) { return nil, filters.ErrBodyTooLarge })
	for _, r := range []ref.Ref{{Root: ref.Body}, {Root: ref.Body, Path: []string{"a"}}} {
		if s, ok, err := r.Text(&x); ok || !errors.Is(err, filters.ErrBodyTooLarge) {
			t.Errorf("the text of %s is %q, %v", r, s, err)
		}
		if v, ok, err := r.Value(&x); ok || !errors.Is(err, filters.ErrBodyTooLarge) {
			t.Errorf("the value of %s is %v, %v", r, v, err)
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
		if v, ok, err := r.Text(x); !ok || v == "" || err != nil {
			t.Errorf("%s is %q, %v", text, v, ok)
		}
	}
	for _, r := range []ref.Ref{{}, {Root: ref.Steps, Path: []string{"pay", "id"}}, {Root: "none"}} {
		if v, ok, err := r.Text(x); ok || err != nil {
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
	chain, err := filters.NewChain(func(*filters.Exchange, string, any, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	chain.Declare(ref.Members(refs...)...)
	chain.Request(x)
	allocs := testing.AllocsPerRun(100, func() {
		for _, r := range refs {
			if _, ok, err := r.Text(x); !ok || err != nil {
				t.Fatalf("%s is not there", r)
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// TestPartsWithTwoReadings: a parameter or a field that a service may read in another way is the
// client's fault, and no value.
func TestPartsWithTwoReadings(t *testing.T) {
	t.Parallel()
	several, spelled := filters.ErrSeveralValues, filters.ErrOtherSpelling
	for query, want := range map[string]any{
		"sku=1": "1", "sku=1&sku=1": "1", "sku=a+b&sku=a%20b": "a b", "sku=1&SKU=2": "1", "x=1&x=2&sku=1": "1",
		"": nil, "x=1": nil, "x=1;y=2": nil, "sku=%zz": nil, "sk%zz=1": nil, "sku": "",
		"sku=&sku": "", "xsku=1&skux=2": nil,
		"sku=1&sku=2": several, "sku=1&x=3&sku=2": several, "sku=1&%73ku=2": several, "%73%6b%75=2&sku=1": several,
		"sku=1&sku=": several, "sku&sku=1": several, "sku=1&s%6Bu=%31+": several, "sku=1&sku=%zz": several,
		"sku=%zz&sku=1": several, "sku=1;sku=2": several, "sku=1;x=2": several, "x=1;sku=2": several,
		"x=1;%73ku=2&sku=3": several, "x;sku&sku=1": several, ";sku=1": several,
	} {
		x := exchangeWith("")
		x.RawQuery = query
		checkPart(t, x, ref.Ref{Root: ref.Query, Path: []string{"sku"}}, query, want)
	}
	for lines, want := range map[string]any{
		"X-Api-Key: a": "a", "x-api-key: a\nX-API-KEY: a": "a", "Other: a": nil,
		"X-Api-Key: a, b": "a, b", "XXApi-Key: b": nil,
		"X-Api-Key: ": "", "X-Api-Key: a\nX-Api-Key: b": several, "X-Api-Key: a\nOther: c\nx-api-key: b": several,
		"X-Api-Key: a\nX-Api-Key: ": several, "X_Api_Key: a": spelled, "X-Api-Key: a\nX_API-KEY: a": spelled,
		"x.api.key: b\nX-Api-Key: a": spelled, "X-Api~Key: b": spelled,
	} {
		x := exchangeWith("")
		x.Header = nil
		for line := range strings.Lines(lines) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			x.Header.Add(name, value)
		}
		checkPart(t, x, ref.Ref{Root: ref.Header, Path: []string{"X-Api-Key"}}, lines, want)
	}
}

// checkPart evaluates a reference: want is its text, nil for no such part, or the error.
func checkPart(t *testing.T, x *filters.Exchange, r ref.Ref, of string, want any) {
	t.Helper()
	text, ok, err := r.Text(x)
	value, valueOK, valueErr := r.Value(x)
	switch want := want.(type) {
	case error:
		var fault *ref.FaultError
		if !errors.Is(err, want) || !errors.As(err, &fault) || ok || !errors.Is(valueErr, want) || valueOK {
			t.Errorf("%q: %s is %q, %v, %v, want %v", of, r, text, ok, err, want)
		} else if reply := filters.RefuseUnreadable(err); reply.Status != 400 || !strings.Contains(string(reply.Body),
			r.String()+" "+want.Error()+".") {
			t.Errorf("%q: the reply is %d %s", of, reply.Status, reply.Body)
		}
	case nil:
		if ok || valueOK || err != nil || valueErr != nil {
			t.Errorf("%q: %s is %q, %v", of, r, text, err)
		}
	default:
		if text != want || value != want || !ok || !valueOK || err != nil {
			t.Errorf("%q: %s is %q, %v, %v, want %q", of, r, text, ok, err, want)
		}
	}
}

// TestFieldsAndParametersAllocateNothing where they come once.
func TestFieldsAndParametersAllocateNothing(t *testing.T) {
	x := exchangeWith("")
	x.RawQuery = "a=1&sku=SKU-1&b=2"
	refs := []ref.Ref{{Root: ref.Query, Path: []string{"sku"}}, {Root: ref.Header, Path: []string{"X-Tenant"}}}
	if n := testing.AllocsPerRun(100, func() {
		for _, r := range refs {
			if _, ok, err := r.Text(x); !ok || err != nil {
				t.Fatal(r, err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzQueryParameter: what is not refused is what a reader that splits at & alone reads, be it the
// first or the last value that it takes, and one that splits at semicolons too.
func FuzzQueryParameter(f *testing.F) {
	for _, query := range []string{"sku=1&%73ku=2", "sku=1;sku=2", "x=1;y&sku=1", "sku=%zz", ";&=;sku"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		x := exchangeWith("")
		x.RawQuery = query
		text, ok, err := (ref.Ref{Root: ref.Query, Path: []string{"sku"}}).Text(x)
		if err != nil {
			return
		}
		for _, separators := range []string{"&", "&;"} {
			ends := func(r rune) bool { return strings.ContainsRune(separators, r) }
			for pair := range strings.FieldsFuncSeq(query, ends) {
				k, v, _ := strings.Cut(pair, "=")
				k, kErr := url.QueryUnescape(k)
				v, vErr := url.QueryUnescape(v)
				if kErr == nil && vErr == nil && k == "sku" && (!ok || v != text) {
					t.Fatalf("%q: %q, %v, and with the separators %q it is %q", query, text, ok, separators, v)
				}
			}
		}
	})
}
