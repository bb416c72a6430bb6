package adminclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/plan"
)

func TestCalls(t *testing.T) {
	t.Parallel()
	name := RecordName{Route: "r", Principal: "p", Key: "k&1"}
	for _, c := range []struct {
		name string
		call func(context.Context, *Client) ([]byte, error)
		want string // method, URI and body
	}{
		{"records", func(ctx context.Context, c *Client) ([]byte, error) {
			return joined(c.Records(ctx, name, "unknown", 0))
		}, "GET /api/idempotency?key=k%261&limit=1000&principal=p&route=r&state=unknown "},
		{"all records", func(ctx context.Context, c *Client) ([]byte, error) {
			return joined(c.Records(ctx, RecordName{}, "", 5))
		}, "GET /api/idempotency?limit=5 "},
		{"resolve", func(ctx context.Context, c *Client) ([]byte, error) {
			return c.Resolve(ctx,
				Resolution{RecordName: RecordName{ID: "i", Force: true}, As: "answered", Status: 201, Body: "b"})
		}, `POST /api/idempotency/resolve ` +
			`{"route":"","principal":"","key":"","id":"i","force":true,"as":"answered","status":201,"body":"b"}`},
		{"forget", func(ctx context.Context, c *Client) ([]byte, error) { return c.Forget(ctx, name) },
			`POST /api/idempotency/forget {"route":"r","principal":"p","key":"k\u00261"}`},
		{"transactions", func(ctx context.Context, c *Client) ([]byte, error) {
			return joined(c.Transactions(ctx, "r", "", 0))
		}, "GET /api/transactions?limit=1000&route=r "},
		{"transaction", func(ctx context.Context, c *Client) ([]byte, error) { return c.Transaction(ctx, "a/b") },
			"GET /api/transactions/a%2Fb "},
		{"breakers", func(ctx context.Context, c *Client) ([]byte, error) { return c.Breakers(ctx) },
			"GET /api/breakers "},
		{"force a breaker", func(ctx context.Context, c *Client) ([]byte, error) {
			return c.ForceBreaker(ctx, "a/b", "open")
		}, `POST /api/breakers/a%2Fb {"state":"open"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const response = `{"records":[{},{}],"transactions":[{},{}]}`
			got := make(chan string, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				got <- r.Method + " " + r.RequestURI + " " + string(body)
				io.WriteString(w, response)
			}))
			defer server.Close()
			for _, address := range []string{server.URL, server.URL + "/", strings.TrimPrefix(server.URL, "http://")} {
				body, err := c.call(t.Context(), &Client{Address: address})
				if err != nil || string(body) != response && string(body) != "{}{}" {
					t.Errorf("%s, %v", body, err)
				}
				if request := <-got; request != c.want {
					t.Errorf("the gateway gets\n%s\nwant\n%s", request, c.want)
				}
			}
		})
	}
}

// joined returns the rows of all pages behind one another.
func joined(pages Pages) (rows []byte, err error) {
	for page, err := range pages {
		if err != nil {
			return rows, err
		}
		for _, row := range page {
			rows = append(rows, row...)
		}
	}
	return rows, nil
}

// TestPages: one page is asked for after the other, with the cursor of the one before, until there are enough.
func TestPages(t *testing.T) {
	t.Parallel()
	pages := map[string]string{
		"": `{"records":[1,2],"next":"a&b"}`, "a&b": `{"records":[],"next":"c"}`, "c": `{"records":[3,4]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, pages[r.URL.Query().Get("after")])
	}))
	defer server.Close()
	for limit, want := range map[int]string{0: "1234", 1: "1", 2: "12", 3: "123", 9: "1234"} {
		got, err := joined((&Client{Address: server.URL}).Records(t.Context(), RecordName{}, "", limit))
		if err != nil || string(got) != want {
			t.Errorf("limit %d: %s, %v, want %s", limit, got, err, want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, want string }{
		{`{"title":"No record","detail":"nothing under k"}`,
			"GET /api/idempotency: 404 Not Found: No record: nothing under k"},
		{`{"detail":"nothing under k"}`, "404 Not Found: nothing under k"},
		{" plain words\n", "404 Not Found: plain words"},
		{`{"title":"Not Found","detail":""}`, "404 Not Found"},
		{`{"title":"Not Found","detail":"not found"}`, "404 Not Found"},
		{`{"title":"Not Found","detail":"There is no service o."}`, "404 Not Found: There is no service o."},
		{`{"title":"No record","detail":"No record"}`, "404 Not Found: No record"},
		{"", "404 Not Found"},
		{"{}", "404 Not Found: {}"},
		{"a\x1b[2Jb\r\nc", "404 Not Found: a [2Jb c"},
		{strings.Repeat("é", 300), "404 Not Found: " + strings.Repeat("é", 250) + " …"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, c.body)
		}))
		_, err := joined((&Client{Address: server.URL}).Records(t.Context(), RecordName{Key: "k"}, "", 0))
		if err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
		server.Close()
	}
	broken := httptest.NewServer(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }),
	)
	defer broken.Close()
	if _, err := joined((&Client{Address: broken.URL}).Records(t.Context(), RecordName{}, "", 0)); err == nil {
		t.Error("no error for a response that is not JSON")
	}
	_, err := joined((&Client{Address: "host:port%"}).Transactions(t.Context(), "", "", 0))
	if !errors.Is(err, ErrAddress) {
		t.Errorf("%v, want %v", err, ErrAddress)
	}
}

// TestCheckConfig: documents are sent as they are, and what is told of them is read with its numbers as they are.
func TestCheckConfig(t *testing.T) {
	t.Parallel()
	const response = `{"in_force":"a","outcome":"applied","changes":[{"path":"limits.l.burst","kind":"changed",` +
		`"old":9007199254740993,"new":1}]}`
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- r.Method + " " + r.RequestURI + " " + string(body)
		io.WriteString(w, response)
	}))
	defer server.Close()
	check, err := (&Client{Address: server.URL}).CheckConfig(t.Context(),
		[]plan.Document{{Name: "a.yaml", Content: "version: 1\n"}})
	const want = `POST /api/config/check {"files":[{"name":"a.yaml","content":"version: 1\n"}]}`
	if request := <-got; err != nil || request != want {
		t.Errorf("%v: %s", err, request)
	}
	if len(check.Changes) != 1 || check.Changes[0].String() != "~ limits.l.burst: 9007199254740993 -> 1" {
		t.Errorf("%+v", check)
	}
}

// TestNobodyAnswers: who cannot be reached, and who does not know a call, are told apart from all else.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	if _, err := (&Client{Address: server.URL}).Config(t.Context()); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v, want %v", err, ErrUnknown)
	}
	server.Close()
	_, err := (&Client{Address: server.URL}).CheckConfig(t.Context(), nil)
	if !errors.Is(err, ErrNoAnswer) || !strings.HasPrefix(err.Error(), "no gateway answers at "+server.URL+": ") {
		t.Errorf("%v, want %v", err, ErrNoAnswer)
	}
}
