package filters

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRefuseGolden(t *testing.T) {
	for _, c := range []struct {
		reason Reason
		p      Problem
		status int
		header Header
		body   string
	}{
		{RateLimited, Problem{Detail: "More than 100 requests in 1s.", Limit: "per-user",
			RetryAfter: 1200 * time.Millisecond}, 429,
			Header{{"Content-Type", "application/problem+json"}, {"Sluice-Reason", "rate-limited"},
				{"Cache-Control", "no-store"}, {"Retry-After", "2"}},
			`{"detail":"More than 100 requests in 1s.",` +
				`"error":{"code":"rate-limited","message":"More than 100 requests in 1s.","type":"rate_limit_error"}` +
				`,"limit":"per-user","reason":"rate-limited","retry_after":2,"status":429,` +
				`"title":"Too many requests","type":"urn:sluice:rate-limited"}` + "\n"},
		{BreakerOpen, Problem{Service: "order"}, 503,
			Header{{"Content-Type", "application/problem+json"}, {"Sluice-Reason", "breaker-open"},
				{"Cache-Control", "no-store"}, {"Retry-After", "1"}},
			`{` +
				`"error":{"code":"breaker-open","message":"The breaker of the service is open","type":"api_error"}` +
				`,"reason":"breaker-open","retry_after":1,"service":"order","status":503,` +
				`"title":"The breaker of the service is open","type":"urn:sluice:breaker-open"}` + "\n"},
		{NoRoute, Problem{}, 404,
			Header{{"Content-Type", "application/problem+json"}, {"Sluice-Reason", "no-route"},
				{"Cache-Control", "no-store"}},
			`{` +
				`"error":{"code":"no-route","message":"No route leads there","type":"invalid_request_error"}` +
				`,"reason":"no-route","status":404,` +
				`"title":"No route leads there","type":"urn:sluice:no-route"}` + "\n"},
		{TransactionFailed, Problem{Extra: map[string]any{"step": "pay", "status": 200, "type": "x"}}, 409,
			Header{{"Content-Type", "application/problem+json"}, {"Sluice-Reason", "transaction-failed"},
				{"Cache-Control", "no-store"}},
			`{` +
				`"error":{"code":"transaction-failed","message":"The transaction was rolled back",` +
				`"type":"invalid_request_error"}` +
				`,"reason":"transaction-failed","status":409,"step":"pay",` +
				`"title":"The transaction was rolled back","type":"urn:sluice:transaction-failed"}` + "\n"},
		{RequestInProgress, Problem{Extra: map[string]any{"bad": func() {}}}, 409,
			Header{{"Content-Type", "application/problem+json"}, {"Sluice-Reason", "request-in-progress"},
				{"Cache-Control", "no-store"}, {"Retry-After", "1"}},
			`{"type":"urn:sluice:request-in-progress","status":409,"reason":"request-in-progress"}` + "\n"},
	} {
		r := Refuse(c.reason, c.p)
		if r.Status != c.status || r.Reason != c.reason || !slices.Equal(r.Header, c.header) ||
			string(r.Body) != c.body {
			t.Errorf("%s:\n%d %v\n%swant\n%d %v\n%s", c.reason, r.Status, r.Header, r.Body, c.status, c.header, c.body)
		}
		if !json.Valid(r.Body) {
			t.Errorf("%s: body is not JSON", c.reason)
		}
	}
}

// TestRefusalsAreWrittenAlike: the short way and that for further members write the same.
func TestRefusalsAreWrittenAlike(t *testing.T) {
	texts := []string{"", "plain", `"quoted" \\ <b>&amp;`, "line\nend\t", "räute", "\xff\x00\u2028", "~\x7f"}
	for reason := range reasons {
		for i, text := range texts {
			for _, wait := range []time.Duration{0, 1, 90 * time.Second} {
				p := Problem{Detail: text, Limit: texts[(i+1)%len(texts)], Service: texts[(i+2)%len(texts)],
					RetryAfter: wait}
				short, long := p.encode(reason, reason.Status()), p.encodeExtra(reason, reason.Status())
				if string(short) != string(long) {
					t.Errorf("%s\n%s", short, long)
				}
			}
		}
	}
}

func BenchmarkRefuse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Refuse(RateLimited, Problem{Detail: "The limit is 100 requests in 1s, at most 100 at once.",
			Limit: "per-user", RetryAfter: time.Second})
	}
}

// TestReasons holds the code against the contract: no reason but those, and each with its status.
func TestReasons(t *testing.T) {
	contract := map[Reason]int{
		"idempotency-key-missing": 400, "idempotency-key-invalid": 400, "idempotency-key-reused": 422,
		"request-in-progress": 409,
		"outcome-unknown":     409, "response-not-replayable": 409, "store-unavailable": 503, "rate-limited": 429,
		"too-many-open-keys": 429,
		"overloaded":         503, "breaker-open": 503, "upstream-unreachable": 502, "upstream-failed": 502,
		"upstream-timeout": 504,
		"sale-not-open":    403, "sale-closed": 403, "sold-out": 409, "purchase-limit": 403, "waiting-room": 202,
		"transaction-failed": 409, "coordinator-unavailable": 503, "no-route": 404, "method-not-allowed": 405,
		"bad-request":      400,
		"header-too-large": 431, "body-too-large": 413, "unauthenticated": 401, "forbidden": 403,
		"expectation-failed": 417, "misdirected-request": 421, "loop-detected": 508,
		"internal-error": 500, // a panic; not in the contract's table
	}
	for r := range reasons {
		if status, ok := contract[r]; !ok || r.Status() != status || r.Title() == "" {
			t.Errorf("%s: status %d, title %q; the contract has %d", r, r.Status(), r.Title(), status)
		}
	}
	for _, r := range []Reason{RateLimited, BreakerOpen, StoreUnavailable, Unauthenticated, KeyReused} {
		if _, ok := reasons[r]; !ok {
			t.Errorf("%s has no entry", r)
		}
	}
	if Reason("nobody").Status() != 500 {
		t.Error("a reason that is not known has a status")
	}
}

func TestWholeSeconds(t *testing.T) {
	for d, want := range map[time.Duration]int64{
		-time.Second: 0, 0: 0, 1: 1, time.Second: 1, time.Second + 1: 2, 90 * time.Minute: 5400, 1<<63 - 1: 9223372037,
	} {
		if got := WholeSeconds(d); got != want {
			t.Errorf("WholeSeconds(%v) is %d, want %d", d, got, want)
		}
	}
}

func TestSetReplyKeepsNothingOfTheOldAnswer(t *testing.T) {
	var x Exchange
	x.Response = Response{Status: 200, Header: Header{{"Set-Cookie", "a"}, {"X", "1"}}, Provisional: true}
	r := Refuse(BreakerOpen, Problem{})
	x.SetReply(r)
	if x.Response.Status != 503 || !x.Response.Local || x.Response.Provisional || !x.Response.Whole ||
		!slices.Equal(x.Response.Header, r.Header) {
		t.Errorf("%+v", x.Response)
	}
	x.Response.Header.Set("Retry-After", "9")
	if r.Header.Get("Retry-After") != "1" {
		t.Error("the exchange shares its header list with the reply")
	}
}

var declared = DeclareReason("sold-out", 409, "A reason of a policy's own")

func TestDeclaredReason(t *testing.T) {
	r := Refuse(declared, Problem{})
	if r.Status != 409 || r.Header.Get("Sluice-Reason") != "sold-out" || !strings.Contains(string(r.Body),
		"A reason of a policy's own") {
		t.Errorf("refused with %+v, body %s", r, r.Body)
	}
	defer func() {
		if recover() == nil {
			t.Error("a reason could be declared twice")
		}
	}()
	DeclareReason("sold-out", 409, "")
}
