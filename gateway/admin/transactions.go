package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// transactionRow is a transaction in a list.
type transactionRow struct {
	recordView
	State transaction.State `json:"state"`
}

// transactionStates are the words that a list of transactions may be narrowed to.
var transactionStates = map[transaction.State]bool{
	"": true, transaction.Pending: true, transaction.Succeeded: true, transaction.Compensating: true,
	transaction.Failed: true, transaction.Unknown: true,
}

// askedAtOnce is of how many transactions the coordinator is asked before the time of a page is looked at.
const askedAtOnce = 100

// coordinatorError says that the coordinator does not tell a state.
type coordinatorError struct{ err error }

func (e *coordinatorError) Error() string {
	return "the coordinator: " + e.err.Error() + "; without state the list has what the records say"
}

func (e *coordinatorError) Unwrap() error { return e.err }

// transactions lists transactions, a page at a time.
func (s *server) transactions(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	state := transaction.State(v.Get("state"))
	p, ok := parsePaging(v)
	switch {
	case !transactionStates[state]:
		writeProblem(w, http.StatusBadRequest, "state is pending, compensating, succeeded, failed or unknown")
		return
	case !ok:
		writeProblem(w, http.StatusBadRequest, badPaging)
		return
	}
	if state != "" {
		p.step = askedAtOnce
	}
	rows, list := []transactionRow{}, s.newWaiting(false, "")
	q := idempotency.Query{Route: v.Get("route"), OfTransaction: true}
	next, err := s.gather(r.Context(), q, p, func(rec *idempotency.Record) (bool, error) {
		if idempotency.Internal(rec.Route) {
			return false, nil
		}
		now, err := s.transactionState(r.Context(), rec, state)
		if err != nil { // a list without them would say that there are none
			return false, &coordinatorError{err}
		}
		if state != "" && now != state {
			return false, nil
		}
		view, _ := list.view(rec)
		row := transactionRow{view, now}
		row.ID, row.GID = row.GID, ""
		rows = append(rows, row)
		return true, nil
	})
	writePage(w, "transactions", rows, next, err)
}

// transactionState returns the state that the record has or, where a list is narrowed to one that only
// the coordinator knows, the coordinator's.
func (s *server) transactionState(
	ctx context.Context, rec *idempotency.Record, wanted transaction.State,
) (transaction.State, error) {
	state := transaction.StateOf(s.Codec, rec)
	if state == transaction.Pending && s.Bridge != nil && s.Bridge.IsLost(rec.GID) {
		return transaction.Unknown, nil
	}
	if state != transaction.Pending || wanted == "" || s.Bridge == nil ||
		wanted == transaction.Succeeded || wanted == transaction.Failed {
		return state, nil
	}
	return s.Bridge.StateNow(ctx, rec.GID)
}

// retryTransactions has the coordinator call at once what it would call again later.
func (s *server) retryTransactions(w http.ResponseWriter, r *http.Request) {
	if s.Bridge == nil {
		writeProblem(w, http.StatusNotFound, "the configuration has no coordinator")
		return
	}
	n, err := s.Bridge.Retry(r.Context())
	if err != nil {
		writeProblem(w, http.StatusServiceUnavailable, "the coordinator: "+err.Error())
		return
	}
	s.Logger.Info("an operator had the unfinished transactions retried", "transactions", n)
	writeJSON(w, http.StatusOK, map[string]any{"retried": n})
}

// stepSettlement is the body of a step's resolve.
type stepSettlement struct {
	Step string              `json:"step"`
	As   transaction.StepEnd `json:"as"`
}

// resolveStep settles a step that is called in vain, as the operator found it to be.
func (s *server) resolveStep(w http.ResponseWriter, r *http.Request) {
	if s.Bridge == nil {
		writeProblem(w, http.StatusNotFound, "the configuration has no coordinator")
		return
	}
	var in stepSettlement
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, settlementBytesMax))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil || in.Step == "" || in.As != transaction.Done && in.As != transaction.Refused {
		writeProblem(w, http.StatusBadRequest, `the body is a JSON object with step and with as: "done" or "refused"`)
		return
	}
	err = s.Bridge.Resolve(r.Context(), r.PathValue("id"), in.Step, in.As)
	switch {
	case errors.Is(err, transaction.ErrNotFound):
		writeProblem(w, http.StatusNotFound, err.Error())
	case errors.Is(err, transaction.ErrEnded), errors.Is(err, transaction.ErrNotCalled),
		errors.Is(err, transaction.ErrUnderWay), errors.Is(err, transaction.ErrNotRefused):
		writeProblem(w, http.StatusConflict, err.Error())
	case err != nil:
		writeProblem(w, http.StatusServiceUnavailable, err.Error())
	default:
		writeJSON(w, http.StatusOK, map[string]any{"resolved": in.As, "step": in.Step})
	}
}

// cancelTransaction has a transaction rolled back, where that is sound.
func (s *server) cancelTransaction(w http.ResponseWriter, r *http.Request) {
	if s.Bridge == nil {
		writeProblem(w, http.StatusNotFound, "the configuration has no coordinator")
		return
	}
	err := s.Bridge.Cancel(r.Context(), r.PathValue("id"))
	switch {
	case errors.Is(err, transaction.ErrNotFound):
		writeProblem(w, http.StatusNotFound, err.Error())
	case errors.Is(err, transaction.ErrEnded), errors.Is(err, transaction.ErrRollsBack),
		errors.Is(err, transaction.ErrAllCalled), errors.Is(err, transaction.ErrSubmitted),
		errors.Is(err, transaction.ErrPrimary):
		writeProblem(w, http.StatusConflict, err.Error())
	case err != nil:
		writeProblem(w, http.StatusServiceUnavailable, err.Error())
	default:
		writeJSON(w, http.StatusOK, map[string]any{"cancelled": r.PathValue("id")})
	}
}

func (s *server) transaction(w http.ResponseWriter, r *http.Request) {
	if s.Bridge == nil {
		writeProblem(w, http.StatusNotFound, "the configuration has no coordinator")
		return
	}
	v, found, err := s.Bridge.Show(r.Context(), r.PathValue("id"))
	switch {
	case err != nil:
		writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
	case !found:
		writeProblem(w, http.StatusNotFound, "there is no such transaction")
	default:
		writeJSON(w, http.StatusOK, v)
	}
}
