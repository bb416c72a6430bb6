package template

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

func exchange() *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) {
		return []byte(`{"sku":"A/../B","qty":2,"price":12345678901234567890,` +
			`"gift":true,"none":null,"cart":{"lines":[{"n":1}]},"up":".."}`), nil
	})
	x.Principal, x.Logical.GID, x.Method, x.Path, x.Route = "ann b", "g1", "POST", "/v1/x", "r"
	x.Params = []filters.Param{{Name: "id", Value: "7 8"}}
	return x
}

func parse(t *testing.T, s string) ref.Template {
	t.Helper()
	tpl, err := ref.ParseTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func TestValueKeepsTypes(t *testing.T) {
	body := map[string]any{
		"id": parse(t, "{gid}"), "text": parse(t, "{principal} buys {body.qty}"), "qty": parse(t, "{body.qty}"),
		"price": parse(t, "{body.price}"), "gift": parse(t, "{body.gift}"), "none": parse(t, "{body.none}"),
		"list": []any{parse(t, "{body.cart.lines.0.n}"), parse(t, "{body.cart}"), json.Number("3"), true, nil},
	}
	v, err := Value(body, exchange(), 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"gift":true,"id":"g1","list":[1,{"lines":[{"n":1}]},3,true,null],` +
		`"none":null,"price":12345678901234567890,"qty":2,"text":"ann b buys 2"}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var missing *MissingError
	if _, err := Value(parse(t, "{body.nothing}"), exchange(), 1<<10); !errors.As(err,
		&missing) || missing.Ref.String() != "body.nothing" {
		t.Errorf("a missing part: %v", err)
	}
}

// A value cannot leave the place in which it is expanded.
func TestTarget(t *testing.T) {
	for _, c := range []struct{ template, path, query string }{
		{"/v1/reservations/{gid}/release", "/v1/reservations/g1/release", ""},
		{"/v1/{body.sku}/x", "", ""}, // an encoded slash is refused here as from a client
		{"/v1/{path.id}", "/v1/7%208", ""},
		{"/v1/x?user={principal}&q={body.qty}", "/v1/x", "user=ann+b&q=2"},
		{"/v1/{body.up}/x", "", ""},
		{"/v1/{body.nothing}", "", ""},
	} {
		path, query, err := Target(parse(t, c.template), exchange())
		if path != c.path || query != c.query || (err != nil) != (c.path == "") {
			t.Errorf("%s: %q ? %q, %v", c.template, path, query, err)
		}
	}
}

// TestValuesAreBounded: what is put in is counted before it is copied, over all places of a body.
func TestValuesAreBounded(t *testing.T) {
	body := func(int64) ([]byte, error) {
		return []byte(`{"s":"` + strings.Repeat("x", 400) + `","l":[1, 2 ,"` + strings.Repeat("y", 400) +
			`"],"n":12}`), nil
	}
	for _, c := range []struct {
		body any
		most int
		want error
	}{
		{parse(t, "{body.s}"), 400, nil},
		{parse(t, "{body.s}"), 399, ErrTooLong},
		{parse(t, "a{body.s}b"), 400, nil},
		{parse(t, "{body.s}{body.s}"), 799, ErrTooLong},
		{parse(t, "{body.l}"), 408, nil},
		{parse(t, "{body.l}"), 407, ErrTooLong},
		{[]any{parse(t, "{body.n}"), parse(t, "{body.n}")}, 3, ErrTooLong},
		{map[string]any{"a": parse(t, "{body.s}"), "b": []any{parse(t, "{body.s}")}}, 799, ErrTooLong},
		{map[string]any{"a": parse(t, "{body.s}"), "b": []any{parse(t, "{body.s}")}}, 800, nil},
	} {
		x := new(filters.Exchange)
		x.Begin(t.Context(), body)
		if _, err := Value(c.body, x, c.most); !errors.Is(err, c.want) {
			t.Errorf("%v within %d bytes: %v", c.body, c.most, err)
		}
	}
	x := new(filters.Exchange)
	long := []byte(`"` + strings.Repeat("x", targetBytesMax+1) + `"`)
	x.Begin(t.Context(), func(int64) ([]byte, error) { return long, nil })
	if _, _, err := Target(parse(t, "/v1/{body}"), x); !errors.Is(err, ErrTooLong) {
		t.Errorf("a path longer than any service takes: %v", err)
	}
}

// TestPartsThatReadTwoWays are an error by their name wherever a template stands.
func TestPartsThatReadTwoWays(t *testing.T) {
	x := new(filters.Exchange)
	x.Begin(t.Context(), func(int64) ([]byte, error) { return []byte(`{"a":1,"a":2,"b":3}`), nil })
	var fault *ref.FaultError
	for _, text := range []string{"{body.a}", "x{body.a}", "/{body.a}"} {
		if _, err := Value(parse(t, text), x, 100); !errors.As(err, &fault) || fault.Ref.String() != "body.a" {
			t.Errorf("%s: %v", text, err)
		}
		if _, _, err := Target(parse(t, text), x); !errors.As(err, &fault) {
			t.Errorf("%s as a path: %v", text, err)
		}
	}
	if v, err := Value(parse(t, "{body.b}"), x, 100); v != json.Number("3") || err != nil {
		t.Errorf("the member beside it: %v, %v", v, err)
	}
}

func TestMembers(t *testing.T) {
	got := Members(map[string]any{"a": []any{parse(t, "{body.x.y} of {gid}"), "plain", json.Number("1")}})
	got = append(got, Members(parse(t, "/v1/{body.id}/{body}"))...)
	if !reflect.DeepEqual(got, [][]string{{"x", "y"}, {"id"}}) {
		t.Errorf("members %v", got)
	}
}
