package envoyratelimit

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	envoyratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	envoytype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var (
	seed  = flag.Uint64("seed", 0, "of the random requests; 0: a new one")
	cases = flag.Int("cases", 150, "random scripts that are compared")
)

// The same limits for both.
const (
	ourLimits = `  second: {rate: 5/s, compat: fixed-window, descriptor: {domain: d, entries: [{key: second}]}}
  minute: {rate: 20/m, compat: fixed-window, descriptor: {domain: d, entries: [{key: minute}]}}
  hour: {rate: 10/h, compat: fixed-window, descriptor: {domain: d, entries: [{key: hour}]}}
  day: {rate: 30/d, compat: fixed-window, descriptor: {domain: d, entries: [{key: day}]}}
  quiet: {rate: 3/h, compat: fixed-window, mode: shadow, descriptor: {domain: d, entries: [{key: quiet}]}}
  outer: {rate: 4/h, compat: fixed-window, descriptor: {domain: d, entries: [{key: outer}]}}
  inner: {rate: 3/h, compat: fixed-window, descriptor: {domain: d, entries: [{key: outer}, {key: inner}]}}
  special:
    rate: 2/h
    compat: fixed-window
    descriptor: {domain: d, entries: [{key: outer, value: special}, {key: inner}]}
  files: {rate: 6/h, compat: fixed-window, descriptor: {domain: d, entries: [{key: files, value: "f*"}]}}
  shared: {rate: 90/h, compat: fixed-window, descriptor: {domain: e, entries: [{key: files, value: "f*", share: true}]}}
`
	theirD = `domain: d
descriptors:
  - {key: second, rate_limit: {unit: second, requests_per_unit: 5}}
  - {key: minute, rate_limit: {unit: minute, requests_per_unit: 20}}
  - {key: hour, rate_limit: {unit: hour, requests_per_unit: 10}}
  - {key: day, rate_limit: {unit: day, requests_per_unit: 30}}
  - {key: quiet, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 3}}
  - key: outer
    rate_limit: {unit: hour, requests_per_unit: 4}
    descriptors:
      - {key: inner, rate_limit: {unit: hour, requests_per_unit: 3}}
  - key: outer
    value: special
    descriptors:
      - {key: inner, rate_limit: {unit: hour, requests_per_unit: 2}}
  - {key: files, value: "f*", rate_limit: {unit: hour, requests_per_unit: 6}}
`
	theirE = `domain: e
descriptors:
  - {key: files, value: "f*", share_threshold: true, rate_limit: {unit: hour, requests_per_unit: 90}}
`
)

// TestDifferential compares the answers of both to random scripts of requests. A script during
// which a window ended for one and not for the other is repeated with other values.
func TestDifferential(t *testing.T) {
	redis := startRedis(t)
	ours := startOurs(t, redis, ourLimits).client(t)
	theirs := startTheirs(t, redis, map[string]string{"d.yaml": theirD, "e.yaml": theirE}).client(t)
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	n := 0
	for i := range *cases {
		for try := 0; ; try++ {
			// As many random numbers at each try, so that a seed gives the same scripts whatever
			// the clock does.
			r := rand.New(rand.NewPCG(*seed, uint64(i)))
			script := makeScript(r, fmt.Sprintf("%x-%d-%d", *seed, i, try))
			second, began := time.Now().Unix(), time.Now()
			fault := compare(t, ours, theirs, script)
			n += len(script)
			ended := time.Now().Unix()
			if fault == "" {
				break
			}
			if ended == second && time.Since(began) < time.Second || try == 20 {
				t.Fatalf("script %d: %s", i, fault)
			}
			if ended/60 == second/60 && !usesSeconds(script) {
				t.Fatalf("script %d: %s", i, fault)
			}
		}
	}
	t.Logf("%d requests to each", n)
}

// usesSeconds reports whether a script has a limit whose window may end while it runs, though the
// minute does not.
func usesSeconds(script []*rls.RateLimitRequest) bool {
	return slices.ContainsFunc(script, func(r *rls.RateLimitRequest) bool {
		return slices.ContainsFunc(r.Descriptors, func(d *envoyratelimit.RateLimitDescriptor) bool {
			return d.GetLimit().GetUnit() == envoytype.RateLimitUnit_SECOND ||
				len(d.Entries) > 0 && d.Entries[0].Key == "second"
		})
	})
}

// makeScript makes some requests about a few values. Values bear the name of the script, so that
// scripts do not meet.
func makeScript(r *rand.Rand, name string) (script []*rls.RateLimitRequest) {
	for range 3 + r.IntN(20) {
		request := &rls.RateLimitRequest{Domain: pick(r, "d", "d", "d", "d", "d", "e", "unknown", "")}
		if r.IntN(3) == 0 {
			request.HitsAddend = r.Uint32N(12)
		}
		for i := range r.IntN(4) {
			request.Descriptors = append(request.Descriptors, makeDescriptor(r, name, i))
		}
		script = append(script, request)
	}
	return script
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// makeDescriptor makes the i-th descriptor of a request.
func makeDescriptor(r *rand.Rand, name string, i int) *envoyratelimit.RateLimitDescriptor {
	d := new(envoyratelimit.RateLimitDescriptor)
	add := func(key, value string) {
		d.Entries = append(d.Entries, &envoyratelimit.RateLimitDescriptor_Entry{Key: key, Value: value})
	}
	value := fmt.Sprintf("%s-%d-%d", name, i*r.IntN(2), r.IntN(2))
	key := pick(r, "second", "minute", "hour", "day", "quiet", "outer", "files", "none", "")
	switch {
	case key == "":
	case key == "files":
		add(key, pick(r, "f", "g")+value)
	case key == "outer" && r.IntN(2) == 0:
		add(key, pick(r, "special", value))
		add(pick(r, "inner", "inner", "other"), value)
	default:
		add(key, value)
	}
	if r.IntN(8) == 0 {
		add("deeper", value)
	}
	if r.IntN(4) == 0 {
		d.HitsAddend = wrapperspb.UInt64(r.Uint64N(8))
	}
	// With a limit of its own a descriptor is out of shadow mode there; here a limit in shadow mode
	// never refuses.
	if r.IntN(6) == 0 && key != "" && key != "quiet" {
		unit := pick(r, envoytype.RateLimitUnit_SECOND, envoytype.RateLimitUnit_MINUTE, envoytype.RateLimitUnit_HOUR,
			envoytype.RateLimitUnit_DAY, envoytype.RateLimitUnit_MONTH, envoytype.RateLimitUnit_YEAR)
		d.Limit = &envoyratelimit.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: r.Uint32N(9), Unit: unit}
		// There, windows of two units that begin at the same second are one count.
		d.Entries[len(d.Entries)-1].Value += unit.String()
	}
	return d
}

// compare sends a script to both and says where they differ.
func compare(t *testing.T, ours, theirs rls.RateLimitServiceClient, script []*rls.RateLimitRequest) string {
	t.Helper()
	for i, request := range script {
		got, gotErr := ask(t, ours, request)
		want, wantErr := ask(t, theirs, request)
		if status.Code(gotErr) != status.Code(wantErr) ||
			status.Convert(gotErr).Message() != status.Convert(wantErr).Message() {
			return fmt.Sprintf("request %d, %v: %v, theirs %v", i, request, gotErr, wantErr)
		}
		if gotErr == nil && !same(got, want) {
			return fmt.Sprintf("request %d, %v:\n%v\ntheirs:\n%v", i, request, got, want)
		}
	}
	return ""
}

// same compares what Envoy goes by. Names and headers are not part of it: theirs are off unless
// configured.
func same(got, want *rls.RateLimitResponse) bool {
	return got.OverallCode == want.OverallCode && slices.EqualFunc(got.Statuses, want.Statuses,
		func(a, b *rls.RateLimitResponse_DescriptorStatus) bool {
			reset := a.GetDurationUntilReset().GetSeconds() - b.GetDurationUntilReset().GetSeconds()
			return a.Code == b.Code && a.LimitRemaining == b.LimitRemaining &&
				(a.CurrentLimit == nil) == (b.CurrentLimit == nil) &&
				a.CurrentLimit.GetRequestsPerUnit() == b.CurrentLimit.GetRequestsPerUnit() &&
				a.CurrentLimit.GetUnit() == b.CurrentLimit.GetUnit() && reset >= -1 && reset <= 1
		})
}
