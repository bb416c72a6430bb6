package participant_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

func testMiddleware(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect, ResponseBytesMax: 50, Log: slog.New(slog.DiscardHandler)}
	if _, err := g.DB.Exec("CREATE TABLE taken (name VARCHAR(50) PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	count := 0
	h := g.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tx := participant.Tx(r.Context())
		if tx == nil {
			w.(http.Flusher).Flush() // the server's own writer
			io.WriteString(w, "streamed")
			return
		}
		if _, ok := w.(http.Flusher); ok {
			t.Error("an answer that waits for its commit can be flushed")
		}
		count++
		name, _ := io.ReadAll(r.Body)
		if err := write("m" + string(name))(tx); err != nil {
			t.Error(err)
		}
		if _, err := tx.Exec("INSERT INTO taken VALUES ('" + string(name) +
			"')"); err != nil { // which ends a transaction of PostgreSQL
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, "taken")
			return
		}
		w.Header().Set("Location", "/"+string(name))
		http.SetCookie(w, &http.Cookie{Name: "secret", Value: "x"})
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		if status != 0 {
			w.WriteHeader(status)
		}
		w.Header().Set("Location", "too late")
		for range 7 {
			if _, err := w.Write(name); err != nil && len(name) < 8 {
				t.Error(err)
			}
		}
	}))
	send := func(method, query, key, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/x"+query, strings.NewReader(body))
		if key != "" {
			r.Header.Set(participant.HeaderKey, key)
			r.Header.Set(participant.HeaderAttempt, "2")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	check := func(name string, w *httptest.ResponseRecorder, status int, body string) {
		t.Helper()
		if got := strings.TrimSpace(w.Body.String()); w.Code != status || got != body {
			t.Errorf("%s: %d %s; want %d %s", name, w.Code, got, status, body)
		}
	}
	first := send("POST", "?status=201", "1", "a")
	check("first", first, 201, "aaaaaaa")
	again := send("POST", "?status=201", "1", "a")
	check("again", again, 201, "aaaaaaa")
	for _, name := range []string{"Location", "Content-Type", "Content-Length"} {
		if first.Header().Get(name) == "" || first.Header().Get(name) != again.Header().Get(name) {
			t.Errorf("%s is %q, in the replay %q", name, first.Header().Get(name), again.Header().Get(name))
		}
	}
	if first.Header().Get("Set-Cookie") == "" || again.Header().Get("Set-Cookie") != "" {
		t.Error("a cookie is for the first answer only")
	}
	check("no status is 200", send("POST", "", "2", "b"), 200, "bbbbbbb")
	check("refused", send("POST", "", "3", "a"), 409, "taken")
	check("refused, again", send("POST", "", "3", "c"), 409, "taken")
	check("plain", send("POST", "", "", "d"), 200, "ddddddd")
	check("plain, refused", send("POST", "", "", "d"), 409, "taken")
	check("at fault", send("POST", "?status=502", "4", "e"), 502, "eeeeeee")
	check("at fault, again", send("POST", "", "4", "e"), 200, "eeeeeee")
	check("too long", send("POST", "", "5", "12345678"), 500, `{"reason":"internal-error"}`)
	before := count
	check("keyed GET", send("GET", "", "1", ""), 200, "streamed")
	check("streamed", send("GET", "", "", ""), 200, "streamed")
	if count != before {
		t.Error("a safe request had a transaction")
	}
	for name, want := range map[string]int{"ma": 1, "mb": 1, "mc": 0, "md": 1, "me": 1, "m12345678": 0} {
		if n := effects(t, g.DB, name); n != want {
			t.Errorf("%s took effect %d times, want %d", name, n, want)
		}
	}
}

func testMiddlewarePanic(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect}
	fault := errors.New("bug")
	for attempt, value := range []any{fault, http.ErrAbortHandler, nil} {
		h := g.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := write("p")(participant.Tx(r.Context())); err != nil {
				t.Error(err)
			}
			w.WriteHeader(201)
			if value != nil {
				panic(value)
			}
		}))
		r := httptest.NewRequest("POST", "/x", nil)
		r.Header.Set(participant.HeaderKey, "p")
		r.Header.Set(participant.HeaderAttempt, strconv.Itoa(attempt+1))
		w := httptest.NewRecorder()
		func() {
			defer func() {
				if got := recover(); got != value {
					t.Errorf("panic of %v became %v", value, got)
				}
			}()
			h.ServeHTTP(w, r)
		}()
		want := 0
		if value == nil {
			want = 1
		}
		if n := effects(t, g.DB, "p"); n != want || value == nil && w.Code != 201 {
			t.Errorf("attempt %d: %d effects, status %d", attempt+1, n, w.Code)
		}
	}
}
