package transaction

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

func xaSettings() Settings {
	call := func(path string) Call {
		return Call{Service: "s", Method: "POST", Path: parse(path), Body: map[string]any{"n": parse("{body.n}")}}
	}
	return Settings{
		Mode: "xa", Wait: 20 * time.Second, Timeout: time.Minute, RetryEvery: time.Second, RetryMax: 2 * time.Second,
		Steps: []Step{{Name: "a", Do: call("/a?own=1")}, {Name: "b", Do: call("/b")}},
	}
}

// resource is a service that takes part: it registers its branch and responds with a status.
type resource struct {
	status    int
	registers bool
	before    func() // before it registers
	answered  int    // to its registration
}

// playXA has the services of a scene take part as dtmcli does (dtmcli/xa.go). The calls are noted with their operation.
func (s *scene) playXA(t *testing.T, of map[string]*resource) {
	s.service = func(_ string, x *filters.Exchange, body []byte) (int, string, filters.Outcome) {
		q, err := url.ParseQuery(x.RawQuery)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.paths = append(s.paths, x.Path+"/"+q.Get("op"))
		s.mu.Unlock()
		if q.Get("gid") == "" || q.Get("trans_type") != "xa" || q.Get("branch_id") == "" ||
			x.Path == "/a" && q.Get("own") != "1" {
			t.Errorf("query %s", x.RawQuery)
		}
		if q.Get("op") != "action" {
			if len(body) > 0 || q.Get("dtm") != "" {
				t.Errorf("the second phase has %s and %s", body, x.RawQuery)
			}
			return 200, "", filters.Completed
		}
		if string(body) != `{"n":1}` {
			t.Errorf("body %s", body)
		}
		r := of[x.Path]
		if r.before != nil {
			r.before()
		}
		if r.registers {
			r.answered = s.registerXA(q)
			if r.answered != 200 {
				return 500, "", filters.Completed
			}
		}
		return r.status, "", filters.Completed
	}
}

func (s *scene) registerXA(q url.Values) int {
	body, _ := json.Marshal(map[string]string{
		"gid": q.Get("gid"), "trans_type": "xa", "branch_id": q.Get("branch_id"), "url": q.Get("phase2_url"),
	})
	u, _ := url.Parse(q.Get("dtm") + "/registerBranch")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, u.Path, strings.NewReader(string(body))))
	return w.Code
}

func TestXA(t *testing.T) {
	for _, c := range []struct {
		name   string
		b      resource
		status int
		calls  string
		body   string
	}{
		{"all are done", resource{status: 200, registers: true}, 200, "/a/action /b/action /b/commit /a/commit", ""},
		{"one refuses", resource{status: 409, registers: true}, 409, "/a/action /b/action /b/rollback /a/rollback",
			`"step_reason":"status 409"`},
		{"one refuses and has not registered", resource{status: 500}, 409, "/a/action /b/action /a/rollback",
			`"step_reason":"status 500"`},
		{"one does not respond", resource{status: 0, registers: true}, 409,
			"/a/action /b/action /b/rollback /a/rollback", `may not be called twice`},
		{"one is no resource", resource{status: 200}, 409, "/a/action /b/action /a/rollback",
			"has not registered its branch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, xaSettings(), func(t *testing.T, s *scene) {
				b := c.b
				s.playXA(t, map[string]*resource{"/a": {status: 200, registers: true}, "/b": &b})
				if b.status == 0 {
					respond := s.service
					s.service = func(service string, x *filters.Exchange, body []byte) (int, string, filters.Outcome) {
						status, text, o := respond(service, x, body)
						if status == 0 {
							o = filters.NoResponse
						}
						return status, text, o
					}
				}
				r := s.checkout(t, "k", `{"n":1}`)
				if r.Status != c.status || s.calls() != c.calls || !strings.Contains(string(r.Body), c.body) {
					t.Errorf("%d %s; calls %s, want %s", r.Status, r.Body, s.calls(), c.calls)
				}
				if s.dtm.seen["submit"] > 1 {
					t.Errorf("%d submits", s.dtm.seen["submit"])
				}
			})
		})
	}
}

// TestXARegistersOnlyWhatIsPrepared: a service that comes to it after the roll-back is refused, so it prepares nothing
// that nobody would end; and another gateway takes the registration as well.
func TestXARegistersOnlyWhatIsPrepared(t *testing.T) {
	inBubble(t, xaSettings(), func(t *testing.T, s *scene) {
		a, b := &resource{status: 200, registers: true}, &resource{status: 200, registers: true}
		a.before = func() { s.reopen(t) }
		b.before = func() { s.dtm.timeout(gidIn(t, s)) }
		s.playXA(t, map[string]*resource{"/a": a, "/b": b})
		r := s.checkout(t, "k", `{"n":1}`)
		if r.Status == 202 { // to the other gateway the do of a was still under way
			s.wait(t)
			s.dtm.timeout(idOf(t, r))
			r = s.checkout(t, "k", `{"n":1}`)
		}
		if r.Status != 409 || a.answered != 200 || b.answered != 409 || s.calls() != "/a/action /b/action /a/rollback" {
			t.Errorf("%d %s; registrations %d and %d; calls %s", r.Status, r.Body, a.answered, b.answered, s.calls())
		}
	})
}

// TestSealedRegistrations: what was sealed for another gid, or with another secret, or was changed, opens nothing.
func TestSealedRegistrations(t *testing.T) {
	key := []byte("0123456789abcdef")
	sealed, err := seal(key, "g1", &sealedStep{Step: "a", ID: "01", Envelope: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := unseal(key, "g1", sealed); !ok || s.Step != "a" {
		t.Fatal(s, ok)
	}
	for name, open := range map[string]func() (*sealedStep, bool){
		"another gid":    func() (*sealedStep, bool) { return unseal(key, "g2", sealed) },
		"another secret": func() (*sealedStep, bool) { return unseal([]byte("another one of it"), "g1", sealed) },
		"changed":        func() (*sealedStep, bool) { return unseal(key, "g1", "A"+sealed[1:]+"A") },
		"cut":            func() (*sealedStep, bool) { return unseal(key, "g1", sealed[:8]) },
		"nothing":        func() (*sealedStep, bool) { return unseal(key, "g1", "") },
	} {
		if s, ok := open(); ok {
			t.Errorf("%s opens %+v", name, s)
		}
	}
}
