package jwks

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/identity"
)

const address = "https://id.shop.example/jwks.json?secret=1"

// issuer publishes keys, as a transport: nothing here needs a network.
type issuer struct {
	mu      sync.Mutex
	answer  func(*http.Request) (*http.Response, error)
	fetched []time.Time
	atOnce  int // fetches that run
	most    int
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.fetched = append(i.fetched, time.Now())
	i.atOnce++
	i.most = max(i.most, i.atOnce)
	answer := i.answer
	i.mu.Unlock()
	defer func() {
		i.mu.Lock()
		i.atOnce--
		i.mu.Unlock()
	}()
	return answer(r)
}

func (i *issuer) says(answer func(*http.Request) (*http.Response, error)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

func (i *issuer) publishes(body string) { i.says(response(200, body)) }

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.fetched)
}

func response(status int, body string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Request: r,
			Header: http.Header{}}, nil
	}
}

// slow answers after a time, or when the request ends.
func slow(d time.Duration, then func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response,
	error) {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return then(r)
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

func private(id string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, id)
	return ed25519.NewKeyFromSeed(seed)
}

// set is a JWK set of keys with those ids.
func set(ids ...string) string {
	var keys []string
	for _, id := range ids {
		keys = append(keys, fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, id,
			base64.RawURLEncoding.EncodeToString(private(id).Public().(ed25519.PublicKey))))
	}
	return `{"keys":[` + strings.Join(keys, ",") + `]}`
}

// counter is a [filters.Counter].
type counter struct{ n atomic.Int64 }

func (c *counter) Inc() { c.n.Add(1) }

// subject is keys that are fetched from an issuer, and the filter that uses them.
type subject struct {
	*Keys
	t               *testing.T
	issuer          *issuer
	filter          *identity.Filter
	logs            *lockedBuffer
	fetched, failed counter
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// in runs a test in a bubble of time of its own.
func in(t *testing.T, test func(*testing.T, *subject)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &subject{t: t, issuer: &issuer{}, logs: &lockedBuffer{}}
		s.issuer.publishes(set("a"))
		s.Keys = New(address, Options{Transport: s.issuer, Logger: slog.New(slog.NewTextHandler(s.logs, nil)),
			Fetched: &s.fetched, Failed: &s.failed})
		var err error
		s.filter, err = identity.New(identity.Settings{Sources: []identity.Source{
			identity.JWT{Keys: s.Keys, Issuer: "us", Now: time.Now}}})
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
		s.Close()
		if s.issuer.most > 1 {
			t.Errorf("%d fetches at once", s.issuer.most)
		}
		if strings.Contains(s.logs.String(), "secret=1") {
			t.Errorf("the query is logged: %s", s.logs.String())
		}
	})
}

// settle lets the fetches that are due be done.
func (s *subject) settle() { synctest.Wait() }

func (s *subject) token(id string, change func(jwt.MapClaims)) string {
	s.t.Helper()
	claims := jwt.MapClaims{"sub": "ann", "iss": "us", "exp": time.Now().Add(24 * time.Hour).Unix()}
	if change != nil {
		change(claims)
	}
	tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	tok.Header["kid"] = id
	text, err := tok.SignedString(private(id))
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// ask has the filter judge a token.
func (s *subject) ask(token string) (principal string, refusal *filters.Reply, took time.Duration) {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Method = "GET"
	x.Header.Add("Authorization", "Bearer "+token)
	began := time.Now()
	refusal = s.filter.Request(x, new(filters.Slot))
	return x.Principal, refusal, time.Since(began)
}

func (s *subject) accepts(id string) {
	s.t.Helper()
	if p, r, _ := s.ask(s.token(id, nil)); p != "ann" || r != nil {
		s.t.Errorf("a token of key %s: %+v", id, r)
	}
}

func (s *subject) refuses(id, challenge string) (took time.Duration) {
	s.t.Helper()
	_, r, took := s.ask(s.token(id, nil))
	if r == nil || r.Status != 401 || r.Header.Get("WWW-Authenticate") != challenge {
		s.t.Errorf("a token of key %s: %+v", id, r)
	}
	return took
}

const (
	invalid   = `Bearer error="invalid_token"`
	noVerdict = "Bearer"
)

func TestFetchedAgain(t *testing.T) {
	in(t, func(t *testing.T, s *subject) {
		s.settle()
		if s.issuer.count() != 0 || s.Current() != nil {
			t.Fatal("it was fetched before it was started")
		}
		s.Start()
		s.Start()
		s.settle()
		s.accepts("a")
		s.issuer.publishes(set("b"))
		time.Sleep(refreshEvery + time.Second)
		s.settle()
		if n := s.issuer.count(); n != 2 {
			t.Errorf("%d fetches after 10 minutes, want 2", n)
		}
		s.accepts("b")
		s.refuses("a", invalid) // the issuer has taken it back; that was looked for, which is fetch 2
		time.Sleep(time.Hour)
		s.settle()
		for _, i := range []int{1, 3, 4, 5} {
			d := s.issuer.fetched[i].Sub(s.issuer.fetched[i-1])
			if d < 9*time.Minute || d > refreshEvery {
				t.Errorf("fetch %d came %s after the one before", i, d)
			}
		}
		if s.fetched.n.Load() != int64(s.issuer.count()) || s.failed.n.Load() != 0 {
			t.Errorf("counted %d and %d of %d", s.fetched.n.Load(), s.failed.n.Load(), s.issuer.count())
		}
	})
}

// TestUnknownKey: a token of a new key is good at once, and tokens of keys that nobody has cost one
// fetch a minute, whatever their number.
func TestUnknownKey(t *testing.T) {
	in(t, func(t *testing.T, s *subject) {
		s.Start()
		s.settle()
		s.issuer.publishes(set("a", "b"))
		s.accepts("b")
		if n := s.issuer.count(); n != 2 {
			t.Fatalf("%d fetches, want 2", n)
		}
		s.issuer.says(slow(300*time.Millisecond, response(200, set("a", "b", "c"))))
		for i := range 50 {
			if took := s.refuses(fmt.Sprintf("forged-%d", i), invalid); took != 0 {
				t.Errorf("it waited %s for a fetch that cannot be", took)
			}
		}
		time.Sleep(renewEvery)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() { s.refuses(fmt.Sprintf("forged-%d", i), invalid) })
		}
		all.Go(func() { s.accepts("c") }) // it waits with them
		all.Wait()
		if n := s.issuer.count(); n != 3 {
			t.Errorf("%d fetches, want 3", n)
		}
		s.accepts("a")
	})
}

// TestNoFetchForWhatIsRefusedAnyway: a token that no key would make good has nobody asked.
func TestNoFetchForWhatIsRefusedAnyway(t *testing.T) {
	in(t, func(t *testing.T, s *subject) {
		s.Start()
		s.settle()
		for name, change := range map[string]func(jwt.MapClaims){
			"expired":        func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
			"exp 0":          func(c jwt.MapClaims) { c["exp"] = 0 },
			"not yet":        func(c jwt.MapClaims) { c["nbf"] = time.Now().Add(time.Hour).Unix() },
			"another issuer": func(c jwt.MapClaims) { c["iss"] = "them" },
		} {
			if _, r, _ := s.ask(s.token("new", change)); r == nil || r.Status != 401 {
				t.Errorf("%s: %+v", name, r)
			}
		}
		secret := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann", "iss": "us"})
		secret.Header["kid"] = "new"
		text, err := secret.SignedString([]byte(private("a").Public().(ed25519.PublicKey)))
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range []string{text, "a.b.c", "x"} {
			if _, r, _ := s.ask(tok); r == nil || r.Status != 401 {
				t.Errorf("%s: %+v", tok, r)
			}
		}
		if n := s.issuer.count(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

// TestLastGoodKeysStay: whatever a fetch brings that is not a set of keys, those in force stay, and
// the operator is told.
func TestLastGoodKeysStay(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		want   string
	}{
		"down":       {func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }, "refused"},
		"404":        {response(404, set("b")), "the status is 404"},
		"204":        {response(204, ""), "the status is 204"},
		"no JSON":    {response(200, "<html>"), "not a JWK set"},
		"empty":      {response(200, ""), "not a JWK set"},
		"no keys":    {response(200, `{}`), "none of 0 keys"},
		"a secret":   {response(200, secretSet), "none of 1"},
		"malformed":  {response(200, `{"keys":[{"kty":"RSA","kid":"b","e":"AQAB"}]}`), "key 0"},
		"too long":   {response(200, set("b")+strings.Repeat(" ", bodyBytesMax)), "longer than 1048576 bytes"},
		"silent":     {slow(time.Hour, response(200, set("b"))), "no complete response within 5s"},
		"half":       {half, "the body broke off"},
		"cleartext":  {redirect("http://id.shop.example/jwks.json"), "only https is followed"},
		"round trip": {redirect(address), "more than 3 redirects"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *subject) {
				s.Start()
				s.settle()
				s.issuer.says(c.answer)
				time.Sleep(time.Hour)
				s.settle()
				s.accepts("a")
				st := s.Status()
				if !strings.Contains(st.Fault, c.want) || st.Keys != 1 || st.Fetched == nil {
					t.Errorf("status %+v, want %q", st, c.want)
				}
				if log := s.logs.String(); !strings.Contains(log, c.want) ||
					!strings.Contains(log, "id.shop.example") || !strings.Contains(log, "the last good ones stay") {
					t.Errorf("the operator is not told: %s", log)
				}
				if n := s.failed.n.Load(); n < 50 || n > 70 {
					t.Errorf("%d failures in an hour, want one a minute", n)
				}
				s.issuer.publishes(set("a", "b"))
				time.Sleep(retryMost + fetchLimit)
				s.settle()
				s.accepts("b")
				if st := s.Status(); st.Fault != "" || st.Keys != 2 {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

var secretSet = `{"keys":[{"kty":"oct","kid":"a","k":"` + strings.Repeat("QUJD", 16) + `"}]}`

func half(r *http.Request) (*http.Response, error) {
	body := io.MultiReader(strings.NewReader(`{"keys":[`), broken{})
	return &http.Response{StatusCode: 200, Body: io.NopCloser(body), Request: r, Header: http.Header{}}, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func redirect(to string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 302, Body: http.NoBody, Request: r,
			Header: http.Header{"Location": {to}}}, nil
	}
}

// TestOneMalformedKey: the others of its set are good, and it is named.
func TestOneMalformedKey(t *testing.T) {
	in(t, func(t *testing.T, s *subject) {
		s.issuer.publishes(strings.Replace(set("a"), `"keys":[`, `"keys":[{"kty":"RSA","kid":"b","e":"AQAB"},`+
			`{"kty":"oct","kid":"c","k":"`+strings.Repeat("QUJD", 16)+`"},`, 1))
		s.Start()
		s.settle()
		s.accepts("a")
		if st := s.Status(); st.Keys != 1 || !strings.Contains(s.logs.String(), "key 0") {
			t.Errorf("%+v %s", st, s.logs.String())
		}
		tok := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann", "iss": "us"})
		tok.Header["kid"] = "c"
		text, err := tok.SignedString([]byte(strings.Repeat("ABC", 16)))
		if err != nil {
			t.Fatal(err)
		}
		if _, r, _ := s.ask(text); r == nil || r.Status != 401 {
			t.Errorf("a token signed with a secret that is published: %+v", r)
		}
	})
}

// TestBeforeTheFirstFetch: no token can be judged, which is no word on the token. A request waits a
// second at most for the fetch, and failures are repeated soon.
func TestBeforeTheFirstFetch(t *testing.T) {
	in(t, func(t *testing.T, s *subject) {
		s.issuer.says(slow(time.Hour, nil))
		s.Start()
		if took := s.refuses("a", noVerdict); took != renewWaitLimit {
			t.Errorf("it waited %s, want %s", took, renewWaitLimit)
		}
		if st := s.Status(); st.Keys != 0 || st.Fetched != nil {
			t.Errorf("status %+v", st)
		}
		s.issuer.says(slow(200*time.Millisecond, response(200, set("a"))))
		time.Sleep(fetchLimit) // until the first has failed and the second has begun
		s.settle()
		if log := s.logs.String(); !strings.Contains(log, "every token is refused with 401") {
			t.Errorf("the operator is not told: %s", log)
		}
		s.accepts("a")
	})
	in(t, func(t *testing.T, s *subject) { // a fetch that is done within the second
		s.issuer.says(slow(200*time.Millisecond, response(200, set("a"))))
		s.Start()
		s.accepts("a")
	})
}

// TestEndsOfTheWait: nobody waits for a client that has left, or for keys that are closed.
func TestEndsOfTheWait(t *testing.T) {
	in(t, func(t *testing.T, s *subject) {
		s.issuer.says(slow(time.Hour, nil))
		s.Start()
		s.settle()
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(100*time.Millisecond, cancel)
		began := time.Now()
		s.Renew(ctx)
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("it waited %s for a client that left", took)
		}
		time.AfterFunc(100*time.Millisecond, s.Close)
		began = time.Now()
		s.Renew(context.Background())
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("it waited %s for keys that are closed", took)
		}
		began = time.Now()
		s.Renew(context.Background())
		s.Start()
		if took := time.Since(began); took != 0 || s.issuer.count() != 1 {
			t.Errorf("it waited %s, %d fetches", took, s.issuer.count())
		}
	})
}

// TestWithoutTransport: nothing waits for keys that nobody fetches.
func TestWithoutTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(address, Options{Logger: slog.New(slog.DiscardHandler)})
		k.Start()
		began := time.Now()
		if k.Renew(context.Background()) != nil || time.Since(began) != 0 {
			t.Error("it waited, or has keys")
		}
		k.Close()
	})
}

func TestShown(t *testing.T) {
	for address, want := range map[string]string{
		"https://id.shop.example/jwks.json":     "https://id.shop.example/jwks.json",
		"https://id.shop.example/jwks.json?a=b": "https://id.shop.example/jwks.json?…",
		"https://%zz":                           "a URL that cannot be read",
	} {
		if got := Shown(address); got != want {
			t.Errorf("%s is shown as %s", address, got)
		}
	}
}
