package template

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// TestResponsesOfSteps: what the request has is put in first, what steps have answered when it is there; types and
// places are kept.
func TestResponsesOfSteps(t *testing.T) {
	body := map[string]any{
		"id": parse(t, "{steps.reserve.id}"), "n": parse(t, "{steps.reserve.n}"), "qty": parse(t, "{body.qty}"),
		"text": parse(t, "{principal}: {steps.reserve.id}"), "list": []any{parse(t, "{steps.reserve.lines}")},
		"all": parse(t, "{steps.price}"),
	}
	x := exchange()
	left, err := Partial(body, x, 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	target, err := PartialTarget(parse(t, "/v1/{body.qty}/{steps.reserve.id}?u={principal}&r={steps.reserve.id}"), x)
	if err != nil {
		t.Fatal(err)
	}
	text, err := PartialText(parse(t, "{principal}/{steps.reserve.n}"), x)
	if err != nil {
		t.Fatal(err)
	}
	x.Begin(t.Context(), nil) // the request has ended
	var of Responses
	of.Add("reserve", []byte(`{"id":"r 1","n":12345678901234567890,"lines":[1, {"a":null}]}`))
	of.Add("price", []byte(` {"cents": 5} `))
	v, err := of.Value(left, 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(v)
	const want = `{"all":{"cents":5},"id":"r 1","list":[[1,{"a":null}]],"n":12345678901234567890,"qty":2,` +
		`"text":"ann b: r 1"}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	path, query, err := of.Target(target)
	if path != "/v1/2/r%201" || query != "u=ann+b&r=r+1" || err != nil {
		t.Errorf("%q ? %q, %v", path, query, err)
	}
	if field, err := of.Field(text); field != "ann b/12345678901234567890" || err != nil {
		t.Errorf("%q, %v", field, err)
	}
}

// TestResponsesThatDoNotFit are errors that name the reference.
func TestResponsesThatDoNotFit(t *testing.T) {
	var of Responses
	of.Add("a", []byte(`{"id":"../..","twice":1,"twice":2,"long":"`+strings.Repeat("x", 50)+`"}`))
	of.Add("text", []byte(`no JSON`))
	var missing *MissingError
	for _, text := range []string{"{steps.a.none}", "{steps.b.id}", "{steps.text.id}", "x{steps.a.none}"} {
		if _, err := of.Value(parse(t, text), 100); !errors.As(err, &missing) || "{"+missing.Ref.String()+"}" !=
			strings.TrimPrefix(text, "x") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := of.Value(parse(t, "{steps.a.long}"), 49); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
	if _, err := of.Value(parse(t, "{steps.a.twice}"), 49); err == nil {
		t.Error("a member that comes twice has a value")
	}
	if path, _, err := of.Target(parse(t, "/v1/{steps.a.id}")); err == nil {
		t.Errorf("a response leads to %s", path)
	}
}
