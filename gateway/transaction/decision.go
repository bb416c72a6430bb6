package transaction

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// decision is what becomes of a transaction whose first phase is over.
type decision string

const (
	decidedSubmit decision = "submit"
	decidedAbort  decision = "abort"

	opEnd = "end" // of the record of the decision
)

// errDecided says that somebody has decided already.
var errDecided = errors.New("transaction: it is decided already")

// decide writes a decision down. The record is in flight until the coordinator has acknowledged it, which settle
// writes down; settle is never nil. With the same token again it is the same decision: its acknowledgement was lost.
func (b *Bridge) decide(ctx context.Context, m *manager, as decision, token uint64) (settle func(), err error) {
	ctx = context.WithoutCancel(ctx)
	id := branchRecord(m.global.GID, "", opEnd)
	claim := idempotency.ClaimRequest{
		ID: id, Token: token, Route: branchRoute(m.route), Principal: m.owner,
		ClientKey: m.global.GID + "//" + string(as),
		Lease:     2 * submitTimeout, Cap: 2 * submitTimeout, TTL: branchTTL,
	}
	rec, claimed, err := b.store.Claim(ctx, claim)
	switch {
	case err != nil:
		return func() {}, err
	case !claimed && rec.Token != token:
		return func() {}, errDecided
	}
	return func() {
		response := b.codec.Append(nil, id, &idempotency.Response{Status: http.StatusOK, Replayable: true})
		change := idempotency.Change{Op: idempotency.Finish, Response: response}
		if err := b.store.Change(ctx, id, claim.Token, change); err != nil {
			b.logger.Info("transaction: the end of a decision was not written", "gid", m.global.GID, "error", err)
		}
	}, nil
}

// resumePrepared goes on with a transaction that is prepared and whose manager is gone: one that was to be aborted is
// aborted. Any other is left to the coordinator, which ends it when its time is over: whether a submit is on its way
// only the gateway knew that sent it.
func (b *Bridge) resumePrepared(ctx context.Context, v *View) {
	if v.status != sagaclient.Prepared || b.managers.get(v.ID) != nil {
		return
	}
	rec, ok, err := b.store.Get(ctx, branchRecord(v.ID, "", opEnd))
	if err != nil || !ok || !strings.HasSuffix(rec.ClientKey, "//"+string(decidedAbort)) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = b.client.Abort(ctx, &sagaclient.Global{GID: v.ID, Mode: sagaclient.Mode(v.kind)}, "{}")
	b.logger.Info("transaction: one that was to be aborted is aborted again", "gid", v.ID, "error", err)
}
