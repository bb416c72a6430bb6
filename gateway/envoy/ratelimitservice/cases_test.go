package ratelimitservice

import (
	"fmt"
	"strings"
	"testing"
	"time"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/ratelimit/ratelimitredis"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// The cases of envoyproxy/ratelimit's own integration tests (test/integration/integration_test.go
// there), with its configuration (runtime/current/ratelimit/config) as limits.
const theirs = `  key1: {rate: 50/s, compat: fixed-window, descriptor: {domain: basic, entries: [{key: key1}]}}
  one_per_minute: {rate: 1/m, compat: fixed-window, descriptor: {domain: basic, entries: [{key: one_per_minute}]}}
  key2: {rate: 20/m, compat: fixed-window, descriptor: {domain: another, entries: [{key: key2}]}}
  key3: {rate: 10/h, compat: fixed-window, descriptor: {domain: another, entries: [{key: key3}]}}
  key4: {rate: 20/d, compat: fixed-window, descriptor: {domain: another, entries: [{key: key4}]}}
  files: {rate: 10/h, compat: fixed-window, descriptor: {domain: share-threshold-test,
    entries: [{key: files, value: "files/*", share: true}]}}
  files_no_share: {rate: 10/h, compat: fixed-window, descriptor: {domain: share-threshold-test,
    entries: [{key: files_no_share, value: "files_no_share/*"}]}}
`

func TestTheirIntegrationCases(t *testing.T) {
	addr := redistest.Start(t)
	for name, stores := range map[string]policy.Stores{
		"one gateway": {},
		"Redis":       redisStores(t, addr),
	} {
		t.Run(name, func(t *testing.T) {
			p := run(t, stores, theirs)
			for _, c := range []struct {
				name string
				run  func(p *plane, value string) []string // what is wrong
			}{
				{"an unmatched domain", unmatchedDomain},
				{"50 a second", fiftyASecond},
				{"25 calls of 20 a minute", twentyAMinute},
				{"two keys, 20 a minute and 10 an hour", twoKeys},
				{"the time until the reset falls", resetFalls},
				{"a shared threshold", sharedThreshold},
				{"thresholds apart", thresholdsApart},
				{"hits above the limit", hitsAboveTheLimit},
			} {
				t.Run(c.name, func(t *testing.T) {
					p.t = t
					// A window may end while the case runs, and then it says nothing.
					for try := range 5 {
						faults := c.run(p, fmt.Sprintf("%s-%d", strings.ReplaceAll(c.name, " ", "-"), try))
						if len(faults) == 0 {
							return
						}
						if try == 4 {
							t.Error(strings.Join(faults, "\n"))
						}
					}
				})
			}
		})
	}
}

func redisStores(t *testing.T, addr string) policy.Stores {
	client := redisx.Open(redisx.Options{Addresses: []string{addr}, Timeout: waitLimit})
	t.Cleanup(func() { _ = client.Close() })
	return policy.Stores{LiveGateways: func() int { return 1 },
		SharedLimiter: func(l ratelimit.Limit) ratelimit.Limiter {
			return ratelimitredis.New(client, "s:", l)
		}}
}

// is compares a response but for the time until the reset.
func is(faults []string, r *rls.RateLimitResponse, want string) []string {
	for _, s := range r.Statuses {
		if s.CurrentLimit != nil && (s.DurationUntilReset.GetSeconds() < 1 ||
			s.DurationUntilReset.GetSeconds() > 86400) {
			faults = append(faults, fmt.Sprintf("%v until the reset", s.DurationUntilReset))
		}
		s.DurationUntilReset = nil
	}
	if got := strings.ReplaceAll(brief(r), " 0s", ""); got != want {
		return append(faults, got+", want "+want)
	}
	return faults
}

func unmatchedDomain(p *plane, value string) []string {
	return is(nil, p.ask("foo", d("hello", value)), "OK; OK")
}

func fiftyASecond(p *plane, value string) []string {
	return is(nil, p.ask("basic", d("key1", value)), "OK; OK key1 50/SECOND 49")
}

func twentyAMinute(p *plane, value string) (faults []string) {
	for i := range 25 {
		want := fmt.Sprintf("OK; OK key2 20/MINUTE %d", 19-i)
		if i >= 20 {
			want = "OVER_LIMIT; OVER_LIMIT key2 20/MINUTE 0"
		}
		faults = is(faults, p.ask("another", d("key2", value)), want)
	}
	return faults
}

func twoKeys(p *plane, value string) (faults []string) {
	for i := range 15 {
		want := fmt.Sprintf("OK; OK key2 20/MINUTE %d; OK key3 10/HOUR %d", 19-i, 9-i)
		if i >= 10 {
			want = fmt.Sprintf("OVER_LIMIT; OK key2 20/MINUTE %d; OVER_LIMIT key3 10/HOUR 0", 19-i)
		}
		faults = is(faults, p.ask("another", d("key2", value), d("key3", value)), want)
	}
	return faults
}

func resetFalls(p *plane, value string) []string {
	until := func() time.Duration {
		return p.ask("another", d("key4", value)).Statuses[0].DurationUntilReset.AsDuration()
	}
	first := until()
	p.pass(time.Second) // as long as Redis's clock takes, where it is Redis's
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); {
		if until() < first {
			return nil
		}
	}
	return []string{fmt.Sprintf("it is %v for %v", first, waitLimit)}
}

func sharedThreshold(p *plane, _ string) (faults []string) {
	for range 10 {
		p.ask("share-threshold-test", d("files", "files/a.pdf"))
	}
	return is(nil, p.ask("share-threshold-test", d("files", "files/b.csv")), "OVER_LIMIT; OVER_LIMIT files 10/HOUR 0")
}

func thresholdsApart(p *plane, value string) (faults []string) {
	for i := range 10 {
		faults = is(faults, p.ask("share-threshold-test", d("files_no_share", fmt.Sprintf("files_no_share/%s-%d",
			value, i))),
			"OK; OK files_no_share 10/HOUR 9")
	}
	return faults
}

func hitsAboveTheLimit(p *plane, value string) []string {
	r := ask(p.t, p.client, &rls.RateLimitRequest{Domain: "another", HitsAddend: 15,
		Descriptors: []*descriptor{d("key3", value)}})
	return is(is(nil, r, "OVER_LIMIT; OVER_LIMIT key3 10/HOUR 0"),
		p.ask("another", d("key3", value)), "OVER_LIMIT; OVER_LIMIT key3 10/HOUR 0")
}

// TestTheirReload: a domain that a reload brings, and one that it takes.
func TestTheirReload(t *testing.T) {
	p := run(t, policy.Stores{}, theirs)
	p.want("OK; OK", "reload", d("block", "foo"))
	p.apply(theirs + "  reload: {rate: 50/s, compat: fixed-window, descriptor: {domain: reload, entries: [{key: " +
		"key1}]}}\n")
	p.want("OK; OK reload 50/SECOND 49 1s", "reload", d("key1", "foo"))
	p.apply(theirs)
	p.want("OK; OK", "reload", d("key1", "foo"))
}
