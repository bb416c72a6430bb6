package policy

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// dead is a transport over which nobody answers.
type dead struct{ asked atomic.Int64 }

func (d *dead) RoundTrip(*http.Request) (*http.Response, error) {
	d.asked.Add(1)
	return nil, errors.New("nobody is there")
}

// TestPublishedKeysOutliveReloads: keys at a URL are fetched when a build that uses them is committed,
// by one for all builds, until none does.
func TestPublishedKeysOutliveReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(url string) string {
			return "version: 1\nstore: {memory: {}}\nidentity: [{jwt: {keys: '" + url + "'}}]\n" +
				"services: {b: {endpoints: ['http://127.0.0.1:1']}}\n" +
				"routes: [{name: r, match: {path: /}, service: b}, {name: q, match: {path: /q}, service: b}]\n"
		}
		transport := &dead{}
		env := testEnv(t)
		env.KeyTransport = transport
		s := New(env)
		defer s.Close()
		build := func(text string) *Build {
			cfg := parse(t, text)
			b := s.Begin(cfg, Material{})
			for _, r := range cfg.Routes {
				if _, err := b.Chain(ScopeOf(cfg, r), ignorePanics); err != nil {
					t.Fatal(err)
				}
			}
			return b
		}
		expect := func(when string, asked int64, unready string, status int) {
			t.Helper()
			synctest.Wait()
			if n := transport.asked.Load(); n != asked {
				t.Errorf("%s: asked %d times, want %d", when, n, asked)
			}
			if why := s.Unready(); !strings.HasSuffix(why, unready) || (why == "") != (unready == "") {
				t.Errorf("%s: %q", when, why)
			}
			var keys int
			for _, st := range s.Status() {
				if st.Member == "identity" {
					keys = len(st.Value.(IdentityStatus).Keys)
				}
			}
			if keys != status {
				t.Errorf("%s: %d key sets in the status, want %d", when, keys, status)
			}
		}
		build(at("https://one.example/k")).Abort()
		expect("aborted", 0, "", 0)
		build(at("https://one.example/k")).Commit()
		expect("committed", 1, "https://one.example/k", 1)
		build(at("https://one.example/k")).Commit()
		expect("committed again", 1, "https://one.example/k", 1)
		build(at("https://two.example/k")).Abort()
		expect("another is aborted", 1, "https://one.example/k", 1)
		build(at("https://two.example/k")).Commit()
		expect("another is committed", 2, "https://two.example/k", 1)
		build(everything).Commit()
		expect("none is used", 2, "", 0)
	})
}
