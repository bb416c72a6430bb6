package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestStatusTable: what has to be acted on is in the table, and what came from outside moves no cursor.
func TestStatusTable(t *testing.T) {
	now := time.Date(2026, 11, 11, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	document, err := json.Marshal(admin.Status{
		Build: "v1", Since: ago(49 * time.Hour), Reason: "the store takes no writes",
		Configuration: admin.ConfigurationStatus{
			Version: "abc", Loaded: ago(3 * time.Hour), Fault: "sluice.yaml:3:1: no such key",
			Refused: &admin.RefusedStatus{At: ago(90 * time.Second), Fault: "sluice.yaml:3:1: no such key"},
		},
		Store: admin.StoreStatus{
			Kind: "redis", State: admin.StoreNoWrites, Since: ago(time.Minute), Fault: "OOM \x1b[2J",
			Members: []string{"host-a/1", "host-b/2"},
			Keys:    &admin.KeysStatus{Open: 12, Unknown: 3, UnknownSince: ago(20 * time.Minute)},
		},
		Resources: admin.Resources{BufferedBytes: admin.ResourceStatus{Used: 50, Max: 200, Refused: 7}},
		Services: []admin.ServiceStatus{{Name: "order", Endpoints: []admin.EndpointStatus{
			{Endpoint: "http://order", Address: "10.0.0.1:80", State: "down", InUse: 4},
		}}},
		Limits: []admin.LimitStatus{{Name: "per-user", Rate: "100/s", Scope: "global", Mode: "enforce",
			Refused: 9}},
		Coordinator: &admin.CoordinatorStatus{State: "open", Fault: "connection refused"},
		Transactions: &admin.TransactionsStatus{Pending: 5, Stuck: []admin.StuckBranch{
			{ID: "gid1", Transaction: "checkout", Step: "pay", Op: "undo", Since: ago(time.Hour), Attempts: 8,
				Status: 500},
		}},
		Certificates: []admin.CertificateStatus{{Setting: "listen.https.cert", Ends: now.Add(73 * time.Hour)}},
		Policies: []policy.Status{{Member: "breakers", Value: policy.Breakers{"order": {State: "open", Calls: 20,
			Errors: 15}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, policies, err := admin.ParseStatus(document)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (&statusPrinter{w: &out, status: &s, policies: policies, now: now}).print(); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"v1, not ready: the store takes no writes, up for 2d1h",
		"abc, in force for 3h0m", "a newer one was refused 1m30s ago: sluice.yaml:3:1: no such key",
		`redis, no-writes for 1m0s: OOM \x1b[2J`, "12 open, 3 of unknown outcome, the oldest for 20m0s",
		"buffered bytes 50 200 25% 7", "order http://order 10.0.0.1:80 down 4 0",
		"order open itself 15 of 20 calls, 0 slow", "(coordinator) open itself connection refused",
		"per-user 100/s global enforce 0 9 0", "gid1 checkout pay undo 1h0m 8 500",
		"listen.https.cert ends in 3d1h", "host-b/2",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("a control character of the gateway reaches the terminal")
	}
}

// TestStatusOfLittle: a gateway that has next to nothing, and one of another version, can be shown.
func TestStatusOfLittle(t *testing.T) {
	for _, document := range []string{`{}`, `{"breakers": 3, "new": {"a": 1}}`} {
		s, policies, err := admin.ParseStatus([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		p := statusPrinter{w: failing{}, status: &s, policies: policies, now: time.Now()}
		if err := p.print(); !errors.Is(err, errFull) {
			t.Errorf("%s: %v: an error of writing is lost", document, err)
		}
	}
	if _, _, err := admin.ParseStatus([]byte(`<html>`)); err == nil {
		t.Error("a page was taken for a status")
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }
