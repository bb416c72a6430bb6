package gateway

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	envoyratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-gateway/sluice/control/source"
)

// TestEnvoysAskForLimits: the process that Envoys connect to answers by the limits of the
// configuration that is in force, and one that is refused changes nothing.
func TestEnvoysAskForLimits(t *testing.T) {
	const text = head + "envoy: {listen: {address: '127.0.0.1:0'}}\nlimits: {a: {rate: 2/h, compat: fixed-window}}\n"
	g := &running{t: t, file: filepath.Join(t.TempDir(), "sluice.yaml"), reload: make(chan struct{}),
		logs: &lockedBuffer{}}
	g.configure(text)
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	go func() {
		ended <- RunEnvoy(ctx, Options{Source: &source.File{Path: g.file, Reload: g.reload},
			OnReady: func(a Addresses) { ready <- a }, Logger: slog.New(slog.NewTextHandler(g.logs, nil))})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	}()
	select {
	case g.at = <-ready:
	case <-time.After(20 * time.Second):
		t.Fatalf("it did not come up: %s", g.logs)
	}
	conn, err := grpc.NewClient(g.at.Envoy, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := rls.NewRateLimitServiceClient(conn)
	ask := func(limit string) *rls.RateLimitResponse {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r, err := c.ShouldRateLimit(ctx, &rls.RateLimitRequest{Domain: "sluice",
			Descriptors: []*envoyratelimit.RateLimitDescriptor{
				{Entries: []*envoyratelimit.RateLimitDescriptor_Entry{{Key: "limit", Value: limit}}}}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	began := time.Now().Truncate(time.Hour)
	codes := []rls.RateLimitResponse_Code{}
	for range 3 {
		codes = append(codes, ask("a").OverallCode)
	}
	if last := ask("b").Statuses[0]; codes[0] != rls.RateLimitResponse_OK || last.CurrentLimit != nil ||
		codes[2] != rls.RateLimitResponse_OVER_LIMIT && time.Now().Truncate(time.Hour).Equal(began) {
		t.Errorf("%v, %v", codes, last)
	}
	g.configure(text + "nonsense: 1\n")
	g.reload <- struct{}{}
	g.configure(head + "envoy: {listen: {address: '127.0.0.1:0'}}\n" +
		"limits: {a: {rate: 20/h, compat: fixed-window}, b: {rate: 1/h}}\n")
	g.reload <- struct{}{}
	for deadline := time.Now().Add(20 * time.Second); ask("b").Statuses[0].CurrentLimit == nil; {
		if time.Now().After(deadline) {
			t.Fatalf("the reload is not in force: %s", g.logs)
		}
	}
	if s := ask("a").Statuses[0]; s.CurrentLimit.GetRequestsPerUnit() != 20 ||
		s.LimitRemaining != 16 && time.Now().Truncate(time.Hour).Equal(began) {
		t.Errorf("%v, want the three hits before to be counted", s)
	}
	if n := g.metric(`sluice_rate_limit_service_requests_total{result="over-limit"}`); n < 1 {
		t.Errorf("%v requests over a limit in the metrics", n)
	}
}
