package transaction

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/transaction/notify"
)

// pendingMode is a transaction of a mode that its client does not see end, since one call of it fails at first.
type pendingMode struct {
	name     string
	settings Settings
	play     func(t *testing.T, s *scene)
	want     State
	steps    string // as the view has them in the end
}

func pendingModes() []pendingMode {
	failsOnce := func(path string) func(*testing.T, *scene) {
		return func(_ *testing.T, s *scene) { s.responds(path, 500, 200) }
	}
	xa := func(b int, op string) func(*testing.T, *scene) {
		return func(t *testing.T, s *scene) {
			s.playXA(t, map[string]*resource{"/a": {status: 200, registers: true}, "/b": {status: b, registers: true}})
			respond, failed := s.service, false
			s.service = func(service string, x *filters.Exchange, body []byte) (int, string, filters.Outcome) {
				status, text, o := respond(service, x, body)
				if q, _ := url.ParseQuery(x.RawQuery); x.Path == "/a" && q.Get("op") == op && !failed {
					failed, status = true, 500
				}
				return status, text, o
			}
		}
	}
	return []pendingMode{
		{"tcc, a confirm fails at first", tccSettings(), failsOnce("/a/confirm"), Succeeded, "a succeeded b succeeded"},
		{"tcc, a cancel fails at first", tccSettings(), func(_ *testing.T, s *scene) {
			s.responds("/b/try", 402)
			s.responds("/a/cancel", 500, 200)
		}, Failed, "a compensated b failed"},
		{"message, a delivery fails at first", messageSettings(false), failsOnce("/y"), Succeeded,
			"x succeeded y succeeded"},
		{"message, after its primary", messageSettings(true), failsOnce("/x"), Succeeded,
			"primary succeeded x succeeded y succeeded"},
		{"message, the primary is in doubt", messageSettings(true), func(_ *testing.T, s *scene) {
			s.responds("/primary", 500)
		}, Failed, "primary failed x skipped y skipped"},
		{"xa, a commit fails at first", xaSettings(), xa(200, "commit"), Succeeded, "a succeeded b succeeded"},
		{"xa, a rollback fails at first", xaSettings(), xa(409, "rollback"), Failed, "a compensated b failed"},
	}
}

// TestTheEndOfEveryModeIsWaitedForAndTold: whoever asks for the status with ?wait= gets the end when it comes, and so
// does the receiver of notify, once.
func TestTheEndOfEveryModeIsWaitedForAndTold(t *testing.T) {
	for _, c := range pendingModes() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			told := make(chan string, 8)
			receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				told <- r.Header.Get("Sluice-Transaction") + " " + string(body)
			}))
			defer receiver.Close()
			settings := c.settings
			settings.Wait, settings.Notify = 100*time.Millisecond, true
			s := newScene(t, settings)
			c.play(t, s)
			s.receiver = notify.Receiver{URL: receiver.URL, Secret: []byte("a secret"), Private: true}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ran := make(chan struct{})
			go func() { defer close(ran); _ = s.Run(ctx) }()
			defer func() { cancel(); <-ran }()

			r := s.checkout(t, "k", `{"n":1,"qty":1}`)
			if r.Status != 202 {
				t.Fatalf("%d %s", r.Status, r.Body)
			}
			g := idOf(t, r)
			s.responds("/query/"+g, 404)
			v, found, err := s.Status(t.Context(), g, "checkout", "ann")
			if err != nil || !found || v.State.Final() {
				t.Fatalf("%+v %v %v", v, found, err)
			}
			waited := make(chan View, 1)
			go func() { waited <- s.Await(t.Context(), v, WaitMax) }()
			select {
			case text := <-told:
				t.Fatalf("told before its end: %s", text)
			case v := <-waited:
				t.Fatalf("waited in vain: %+v", v)
			case <-time.After(50 * time.Millisecond):
			}
			s.dtm.endWithin(t, g, 30*time.Second)
			v = <-waited
			var steps []string
			for _, step := range v.Steps {
				steps = append(steps, step.Name+" "+string(step.State))
			}
			if v.State != c.want || strings.Join(steps, " ") != c.steps {
				t.Errorf("%s, %v, want %s, %s", v.State, steps, c.want, c.steps)
			}
			select {
			case text := <-told:
				if !strings.HasPrefix(text, g+` {"id":"`+g+`","state":"`+string(c.want)+`"`) {
					t.Errorf("told %s", text)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("not told")
			}
			if again := s.checkout(t, "k", `{"n":1,"qty":1}`); !containsState(again.Body, c.want) {
				t.Errorf("again: %d %s", again.Status, again.Body)
			}
			s.wait(t)
			select {
			case text := <-told:
				t.Errorf("told again: %s", text)
			default:
			}
		})
	}
}

// endWithin has the coordinator look at a transaction until it has ended.
func (s *scripted) endWithin(t *testing.T, gid string, d time.Duration) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); ; <-tick.C {
		switch state := s.timeout(gid); {
		case state == "succeed" || state == "failed":
			return
		case time.Now().After(end):
			t.Fatalf("it is still %s", state)
		}
	}
}
