package transaction

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/gateway/template"
)

// TestARequestThatTheCoordinatorCouldNotStore is refused before anything is done, and its key is free.
func TestARequestThatTheCoordinatorCouldNotStore(t *testing.T) {
	d := newFixture(t)
	d.submit = func(gid string) int {
		d.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
		return 200
	}
	// The settings have the quantity in the bodies of two steps; what undoes the first has the same body once more.
	body := func(n int) string { return `{"qty":"` + strings.Repeat("x", n) + `"}` }
	r := d.checkout(t, "k", body(33_000))
	if r.Status != 413 || r.Reason != filters.BodyTooLarge || len(d.submits) != 0 {
		t.Fatalf("%d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
	if list, err := d.store.List(t.Context(), idempotency.Query{}, 10); err != nil || len(list) != 0 {
		t.Errorf("the key is not free: %+v, %v", list, err)
	}
	if r := d.checkout(t, "k", body(32_000)); r.Status != 200 || len(d.submits) != 1 {
		t.Errorf("one that fits: %d %s", r.Status, r.Body)
	}
}

// TestFieldsOfACall: they are rendered with the call, and no value of a request can be more than one field.
func TestFieldsOfACall(t *testing.T) {
	c := Call{Service: "stock", Method: "POST", Path: parse("/x"), Headers: []Field{
		{"Authorization", parse("{header.Authorization}")},
		{"X-Tenant", parse("shop-{body.tenant}")},
	}}
	render := func(auth, body string) (*envelopeCall, error) {
		x := new(filters.Exchange)
		x.Begin(t.Context(), func(int64) ([]byte, error) { return []byte(body), nil })
		if auth != "" {
			x.Header.Add("Authorization", auth)
		}
		return renderCall(x, &c)
	}
	out, err := render("Bearer x", `{"tenant":"a"}`)
	if err != nil || len(out.Headers) != 2 || out.Headers[0] != [2]string{"Authorization", "Bearer x"} ||
		out.Headers[1] != [2]string{"X-Tenant", "shop-a"} {
		t.Errorf("%+v %v", out, err)
	}
	var missing *template.MissingError
	if _, err := render("", `{"tenant":"a"}`); !errors.As(err, &missing) || missing.Ref.Root != ref.Header {
		t.Errorf("without the field: %v", err)
	}
	for _, hostile := range []string{`a\r\nX-Admin: 1`, `a\u0000`, `a\u007f`} {
		if out, err := render("Bearer x", `{"tenant":"`+hostile+`"}`); err == nil {
			t.Errorf("%q became %+v", hostile, out.Headers)
		}
	}
	long := `{"tenant":"` + strings.Repeat("a", 9000) + `"}`
	if _, err := render("Bearer x", long); !errors.Is(err, template.ErrTooLong) {
		t.Errorf("a long one: %v", err)
	}
}

// TestABodyThatIsNoJSONIsCalledThat: the client is told what is wrong with the body, and not that a member is missing.
func TestABodyThatIsNoJSONIsCalledThat(t *testing.T) {
	d := newFixture(t)
	for body, want := range map[string]string{
		`qty=2`:     "not a JSON document",
		``:          "not a JSON document",
		`{"qte":2}`: "the request has none",
		`[2]`:       "the request has none",
	} {
		r := d.checkout(t, "k", body)
		if r.Status != 400 || r.Reason != filters.BadRequest || !strings.Contains(string(r.Body), want) ||
			!strings.Contains(string(r.Body), "body.qty") {
			t.Errorf("%q: %d %s", body, r.Status, r.Body)
		}
	}
}
