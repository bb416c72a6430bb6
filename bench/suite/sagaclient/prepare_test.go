package sagaclient_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/dtmtest"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// TestPreparedTransactions: TCC and messages on a real coordinator, with the calls that a state does not allow.
func TestPreparedTransactions(t *testing.T) {
	b := newBranches(t)
	coordinator := dtmtest.Start(t, dtmtest.Options{})
	client, err := sagaclient.New(sagaclient.Options{Endpoints: []string{coordinator.URL}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tcc := func(gid string) *sagaclient.Global {
		g := &sagaclient.Global{
			GID: gid, Mode: sagaclient.TCC, Timeout: time.Minute, RetryEvery: time.Second, Wait: true,
			Custom: `{"a":1}`,
		}
		must(client.Prepare(ctx, g))
		must(client.Prepare(ctx, g)) // it is safe
		r := &sagaclient.Registration{
			GID: gid, Mode: sagaclient.TCC, BranchID: "01", Payload: []byte(`{"n":1}`), Confirm: b.URL + "/" + gid + "/confirm",
			Cancel: b.URL + "/" + gid + "/cancel",
		}
		must(client.RegisterBranch(ctx, r))
		if err := client.RegisterBranch(ctx, r); !errors.Is(err, sagaclient.ErrUnknown) {
			t.Errorf("registered twice: %v", err)
		}
		return g
	}
	good := tcc("tccgood0001")
	must(client.SubmitPrepared(ctx, good))
	got, err := client.Query(ctx, good.GID)
	if err != nil || got.Status != sagaclient.Succeeded || got.Custom != good.Custom || got.Type != "tcc" ||
		len(got.Branches) != 2 || got.Branches[0].Payload != `{"n":1}` {
		t.Errorf("%+v, %v", got, err)
	}
	for name, err := range map[string]error{
		"submit": client.SubmitPrepared(ctx, good), "abort": client.Abort(ctx, good, ""),
		"prepare": client.Prepare(ctx, good), "register": client.RegisterBranch(ctx, &sagaclient.Registration{
			GID: good.GID, Mode: sagaclient.TCC, BranchID: "02",
		}),
	} {
		if !errors.Is(err, sagaclient.ErrRejected) {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
	bad := tcc("tccbad00001")
	must(client.Abort(ctx, bad, "because"))
	got, err = client.Query(ctx, bad.GID)
	if err != nil || got.Status != sagaclient.Failed || got.Reason != "because" {
		t.Errorf("%+v, %v", got, err)
	}
	message := func(gid string) *sagaclient.Global {
		return &sagaclient.Global{
			GID: gid, Mode: sagaclient.Message, RetryEvery: time.Second, Wait: true,
			Deliveries: []sagaclient.Delivery{{URL: b.URL + "/" + gid + "/x"}, {URL: b.URL + "/" + gid + "/y"}},
		}
	}
	must(client.SubmitMessage(ctx, message("message0001")))
	prepared := message("message0002")
	prepared.QueryPrepared = b.URL + "/query"
	must(client.Prepare(ctx, prepared))
	must(client.Abort(ctx, prepared, ""))
	if err := client.SubmitPrepared(ctx, prepared); !errors.Is(err, sagaclient.ErrRejected) {
		t.Errorf("submit of an aborted message: %v", err)
	}
	want := []string{"/tccgood0001/confirm", "/tccbad00001/cancel", "/message0001/x", "/message0001/y"}
	if got := b.called(); !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
}
