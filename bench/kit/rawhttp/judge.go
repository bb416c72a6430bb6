package rawhttp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Result is the verdict on one case.
type Result struct {
	Verdict  string // PASS, WARN-HANG or FAIL-…
	Detail   string
	Strict   bool
	Statuses []int    // what the client got
	Requests []string // what the service got
	TimedOut bool     // the client waited in vain: for a response, its end or the close
}

// Passed reports whether the case neither failed nor hung.
func (r Result) Passed() bool { return r.Verdict == pass }

const (
	pass = "PASS"
	hang = "WARN-HANG"
)

// observation is what both sides of the gateway saw during a case.
type observation struct {
	client   []byte
	closed   bool // by the gateway
	upstream record
	probe    string // what is wrong with the probe's response
}

// judgement looks at one observation.
type judgement struct {
	c       *Case
	o       observation
	streams [][]byte // of the service, without those that carried a probe alone
	heads   []head   // of the requests on them
	all     []response
	finals  []response

	lax string // why the case is not handled strictly
}

// finding is a reason to fail; the zero value is none.
type finding struct{ verdict, detail string }

func judge(c *Case, o observation) Result {
	j := &judgement{c: c, o: o, all: responses(o.client, c.Methods, o.closed)}
	j.finals = finals(j.all)
	j.readStreams()
	f := j.first(j.smuggled, j.poisoned, j.ambiguous, j.forbidden, j.expected, j.wanted)
	r := Result{Verdict: f.verdict, Detail: f.detail, Requests: o.upstream.requests}
	if f.verdict == "" {
		r.Verdict, r.Detail, r.Strict = pass, j.lax, j.lax == ""
	}
	for _, a := range j.all {
		r.Statuses = append(r.Statuses, a.status)
	}
	return r
}

func (j *judgement) first(checks ...func() finding) finding {
	for _, check := range checks {
		if f := check(); f.verdict != "" {
			return f
		}
	}
	return finding{}
}

func (j *judgement) readStreams() {
	for _, b := range j.o.upstream.streams {
		if bytes.HasPrefix(b, []byte("GET "+probePath)) {
			continue
		}
		j.streams = append(j.streams, b)
		for {
			h, rest, ok := cutHead(b)
			if !ok {
				break
			}
			if _, target := h.requestLine(); !strings.HasPrefix(target, probePath) {
				j.heads = append(j.heads, h)
			}
			_, used, s := strictBody(h, rest)
			if s != complete {
				break
			}
			b = rest[used:]
		}
	}
}

// smuggled: some server would see a request that the client did not send.
func (j *judgement) smuggled() finding {
	for _, b := range j.streams {
		for _, reader := range readers {
			for _, q := range reader.requests(b) {
				if !strings.Contains(q, "/SMUGGLED") {
					continue
				}
				if !reader.foldedNames {
					return finding{"FAIL-SMUGGLE", fmt.Sprintf("a server (%s) sees %q", reader.name, q)}
				}
				j.lax = fmt.Sprintf("a server with %s sees %q", reader.name, q)
			}
		}
	}
	if n := len(j.o.upstream.requests); n > j.requestsSent() && j.c.Policy == "" {
		return finding{"FAIL-SMUGGLE", fmt.Sprintf("the service got %d requests instead of %d: %q", n,
			j.requestsSent(), j.o.upstream.requests)}
	}
	return finding{}
}

func (j *judgement) requestsSent() int { return max(j.c.NReq, 1) }

func (j *judgement) poisoned() finding {
	if j.o.probe != "" {
		return finding{"FAIL-POISON", j.o.probe}
	}
	return finding{}
}

// ambiguous: a head that two readers may take differently went to the service or to the client.
func (j *judgement) ambiguous() finding {
	for _, b := range j.streams {
		h, rest, ok := cutHead(b)
		if !ok {
			continue
		}
		fault := headFault(h, j.c.TEListOK)
		if _, _, s := strictBody(h, rest); fault == "" && s == doubtful {
			fault = "framing that no strict server accepts"
		}
		if fault != "" {
			return finding{"FAIL-AMBIGUOUS", fault + " went to the service"}
		}
	}
	for _, a := range j.all {
		if fault := headFault(a.head, j.c.TEListOK); fault != "" {
			return finding{"FAIL-AMBIGUOUS", fault + " went to the client"}
		}
	}
	return finding{}
}

func headFault(h head, listOK bool) string {
	text := strings.ReplaceAll(string(h), "\r\n", "")
	switch {
	case strings.Contains(text, "\n"):
		return "a bare LF"
	case strings.Contains(text, "\r"):
		return "a bare CR"
	case strings.Contains(text, "\x00"):
		return "a NUL"
	}
	for _, f := range h.fields() {
		if f.name == "" || strings.ContainsAny(f.name, " \t") {
			return fmt.Sprintf("a folded line or a name with a space (%.40q)", f.name)
		}
	}
	f := h.framing()
	switch {
	case len(f.lengths) > 1:
		return "more than one Content-Length"
	case len(f.codings) > 1:
		return "more than one Transfer-Encoding"
	case len(f.lengths) > 0 && len(f.codings) > 0:
		return "Content-Length beside Transfer-Encoding"
	case len(f.codings) == 1 && f.codings[0] != "chunked" && !(listOK && strings.HasSuffix(f.codings[0], ", chunked")):
		return fmt.Sprintf("Transfer-Encoding %q", f.codings[0])
	}
	return ""
}

// forbidden: the case names what must not be there.
func (j *judgement) forbidden() finding {
	for _, h := range j.heads {
		if p := matching(slices.Concat(j.c.UpNot, j.c.HeadNot), []byte(h)); p != "" {
			return finding{"FAIL-MUSTNOT", "a head at the service matches " + p}
		}
		if p := matching(j.c.BestUpNot, []byte(h)); p != "" {
			j.lax = "a head at the service matches " + p
		}
	}
	for _, b := range j.streams {
		if p := matching(j.c.UpRawNot, b); p != "" {
			return finding{"FAIL-MUSTNOT", "the bytes at the service match " + p}
		}
	}
	if p := matching(j.c.RespNot, j.o.client); p != "" {
		return finding{"FAIL-MUSTNOT", "the bytes at the client match " + p}
	}
	return finding{}
}

func matching(patterns []Pattern, b []byte) string {
	for _, p := range patterns {
		if p.Match(b) {
			return p.String()
		}
	}
	return ""
}

// expected: what the case expects to become of the exchange.
func (j *judgement) expected() finding {
	switch {
	case j.c.Policy == "deny":
		return j.denied()
	case j.c.Incomplete:
		if len(j.o.upstream.requests) > 0 {
			return finding{"FAIL-MUSTNOT", "the service got a whole request that was never whole"}
		}
		return finding{}
	case j.c.RespIncomplete:
		if len(j.finals) > 0 && j.finals[0].complete && j.finals[0].status < 400 {
			return finding{"FAIL-MUSTNOT", "the client got a whole response that was never whole"}
		}
		return finding{}
	}
	refused := j.refused()
	if j.c.Best == "reject-400" && !refused {
		j.lax = "forwarded"
	}
	if j.c.Expect == "forward-ok" {
		return j.forwarded()
	}
	if j.c.Expect == "reject-400" && !refused {
		return finding{"FAIL-FORWARDED", fmt.Sprintf("responses %d, the service got %q", statuses(j.finals),
			j.o.upstream.requests)}
	}
	if refused && len(j.finals) == 0 && !j.o.closed {
		return finding{hang, "no response, no close, nothing complete at the service"}
	}
	return finding{}
}

// denied looks at the paths as a service that resolves them would.
func (j *judgement) denied() finding {
	for _, b := range j.streams {
		for _, q := range readers[0].requests(b) {
			_, target, _ := strings.Cut(q, " ")
			if path := resolved(target); path == "/deny" || strings.HasPrefix(path, "/deny/") {
				return finding{"FAIL-POLICY", fmt.Sprintf("the service got %q", q)}
			}
		}
	}
	return finding{}
}

// refused: a response of a service that cannot be passed on gives a 5xx or a close; any other case
// is refused when nothing arrived.
func (j *judgement) refused() bool {
	if j.c.Cat == "response" {
		return len(j.finals) == 0 || j.finals[0].status >= 500
	}
	return len(j.o.upstream.requests) == 0 && (len(j.finals) == 0 || j.finals[0].status == 0 ||
		j.finals[0].status >= 300)
}

func (j *judgement) forwarded() finding {
	want := j.c.WantStatus
	if want == 0 {
		want = 200
	}
	got := j.o.upstream.requests
	if len(j.finals) == 0 || j.finals[0].status != want {
		return finding{"FAIL-REJECTED", fmt.Sprintf("responses %d instead of %d, the service got %q",
			statuses(j.finals), want, got)}
	}
	if len(got) != j.requestsSent() || j.c.Cat != "response" && len(j.finals) < j.requestsSent() {
		return finding{"FAIL-COUNT", fmt.Sprintf("%d requests and %d responses instead of %d", len(got),
			len(j.finals), j.requestsSent())}
	}
	if body := j.o.upstream.bodies[0]; j.c.WantBody != nil && string(body) != *j.c.WantBody {
		return finding{"FAIL-BODY", fmt.Sprintf("the service got the body %.80q", body)}
	}
	if a := j.finals[0]; j.c.WantRespBody != nil && (!a.complete || string(a.body) != *j.c.WantRespBody) {
		return finding{"FAIL-BODY", fmt.Sprintf("the client got the body %.80q, whole: %v", a.body, a.complete)}
	}
	return finding{}
}

// wanted: what cases-more.json asks for beside the verdict.
func (j *judgement) wanted() finding {
	fail := func(format string, args ...any) finding { return finding{"FAIL-WANT", fmt.Sprintf(format, args...)} }
	if got := statuses(j.finals); j.c.Statuses != nil && !slices.EqualFunc(got, j.c.Statuses, oneOf) {
		return fail("responses %d instead of %s", got, j.c.Statuses)
	}
	for _, p := range j.c.UpHas {
		if !slices.ContainsFunc(j.heads, func(h head) bool { return p.MatchString(string(h)) }) {
			return fail("no head at the service matches %v: %.300q", p, j.heads)
		}
	}
	for _, p := range j.c.UpRawHas {
		if !slices.ContainsFunc(j.streams, p.Match) {
			return fail("nothing at the service matches %v: %.300q", p, j.streams)
		}
	}
	for _, p := range j.c.RespHas {
		if !p.Match(j.o.client) {
			return fail("nothing at the client matches %v: %.300q", p, j.o.client)
		}
	}
	if (j.c.Closes || j.c.Problem) && !j.o.closed {
		return fail("the gateway leaves the connection open")
	}
	if j.c.Problem {
		if fault := j.problemFault(); fault != "" {
			return fail("%s", fault)
		}
	}
	return finding{}
}

// problemFault says what the last response lacks of a refusal before routing: RFC 9457, and a close
// that was announced.
func (j *judgement) problemFault() string {
	if len(j.finals) == 0 {
		return "closed without a response"
	}
	a := j.finals[len(j.finals)-1]
	var body struct {
		Status int    `json:"status"`
		Reason string `json:"reason"`
	}
	switch {
	case a.field("Content-Type") != "application/problem+json":
		return fmt.Sprintf("the refusal is of type %q", a.field("Content-Type"))
	case a.field("Connection") != "close":
		return "the refusal does not say Connection: close"
	case json.Unmarshal(a.body, &body) != nil || body.Status != a.status || body.Reason == "" ||
		body.Reason != a.field("Sluice-Reason"):
		return fmt.Sprintf("the body of the refusal is %.200q, Sluice-Reason %q", a.body, a.field("Sluice-Reason"))
	}
	return ""
}

func oneOf(status int, alternatives string) bool {
	return slices.Contains(strings.Split(alternatives, "|"), strconv.Itoa(status))
}

func statuses(all []response) []int {
	got := make([]int, len(all))
	for i, r := range all {
		got[i] = r.status
	}
	return got
}

// resolved reads a target as the most obliging of servers: escapes decoded once, backslashes as
// slashes, parameters dropped, dot segments resolved.
func resolved(target string) string {
	if _, rest, absolute := strings.Cut(target, "://"); absolute {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			target = rest[i:]
		}
	}
	if i := strings.IndexAny(target, "?#"); i >= 0 {
		target = target[:i]
	}
	var path []byte
	for i := 0; i < len(target); i++ {
		c := target[i]
		if c == '%' && i+2 < len(target) {
			if v, err := strconv.ParseUint(target[i+1:i+3], 16, 8); err == nil {
				c, i = byte(v), i+2
			}
		}
		path = append(path, c)
	}
	var kept []string
	for segment := range strings.SplitSeq(strings.ReplaceAll(string(path), "\\", "/"), "/") {
		segment, _, _ = strings.Cut(segment, ";")
		switch segment {
		case "", ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, segment)
		}
	}
	return "/" + strings.Join(kept, "/")
}
