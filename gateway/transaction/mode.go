package transaction

import (
	"cmp"
	"context"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// mode is one way in which transactions run at the coordinator. All that depends on it is behind this
// interface: whoever needs to know more than the interface says belongs into the mode.
type mode interface {
	// render makes the transaction of a request, with the gid of the exchange. Nothing is sent. What it
	// returns has no part of the exchange in it, which is used again when the request has ended.
	render(ctx context.Context, e *Executor, x *filters.Exchange) (rendered, error)
	// asksFirst reports whether the coordinator is asked for a gid before a transaction begins under it: where it would
	// itself begin one that it knows once more.
	asksFirst(b *Bridge) bool
	// operations are the calls that a step has, the first one that is made of it before the others.
	operations() []operation
	// places returns the steps that begin at the client's request, and the services at which they do: these are asked
	// for room before anything is begun. One has the other's length.
	places(s *Settings) (steps, services []string)
	// view fills in the steps of a transaction, and what its state alone does not say.
	view(ctx context.Context, b *Bridge, t *sagaclient.Transaction, v *View)
}

// rendered is the transaction of one request, ready to begin.
type rendered interface {
	// start begins it at the coordinator and goes on in the background; it is called once. asked: the coordinator did
	// not know the gid.
	start(ctx context.Context, b *Bridge, asked bool) *started
}

// started is a transaction that begins.
type started struct {
	// accepted gives one value: nil when the coordinator has the transaction, or the error of it, as
	// [sagaclient.Client.Submit] and SubmitNew have them.
	accepted chan error
	// settled is closed when a query is worth while: the coordinator has done what it does at once.
	settled chan struct{}
	// succeeded: it has, as the coordinator says and as was seen here; there is nothing to ask. Written before
	// settled is closed.
	succeeded bool
}

func newStarted() *started {
	return &started{accepted: make(chan error, 1), settled: make(chan struct{})}
}

// operation is one of the calls that a step has.
type operation struct {
	name string // in records and branch URLs
	dtm  string // the coordinator's word for it
	// state is the coordinator's state in which it may be made.
	state sagaclient.Status
	// call is how filters see it.
	call filters.Call
	// begins: it begins a step, so it needs the record of the transaction.
	begins bool
	// refusable: a status of failOn is a refusal.
	refusable bool
	// strict: any status but 2xx is one.
	strict bool
	// notDone: 404 is one.
	notDone bool
	// queried: in its record may be the response of another operation, of which 404 and failOn are refusals.
	queried bool
	// stops: nobody refuses it, so where the gateway does, the coordinator would call it for ever.
	stops bool
	// undoes is the operation that it takes back: it is not made while that one is under way, and not
	// needed when the service refused it. Empty: none.
	undoes string
	of     func(*envelope) *envelopeCall
}

const (
	modeSaga    = "saga"
	modeTCC     = "tcc"
	modeMessage = "message"
	modeXA      = "xa"

	opDo   = "do"
	opUndo = "undo"
)

// modes are the modes, by the word of the configuration.
var modes = map[string]mode{
	modeSaga: sagaMode{}, modeTCC: tccMode{}, modeMessage: messageMode{}, modeXA: xaMode{},
}

// transTypes are the coordinator's words for the modes.
var transTypes = map[string]string{modeSaga: "saga", modeTCC: "tcc", modeMessage: "msg", modeXA: "xa"}

// transType is the coordinator's word for the mode of that name.
func transType(mode string) string { return cmp.Or(transTypes[mode], transTypes[modeSaga]) }

// modeOf returns the mode of a name; without one it is a saga.
func modeOf(name string) mode {
	if m := modes[name]; m != nil {
		return m
	}
	return sagaMode{}
}

// modeAt returns the mode of a transaction that the coordinator knows.
func modeAt(t *sagaclient.Transaction) mode {
	for name, word := range transTypes {
		if word == t.Type {
			return modes[name]
		}
	}
	return sagaMode{}
}

// everyStep are the steps, and the services at which they begin.
func everyStep(s *Settings) (steps, services []string) {
	for i := range s.Steps {
		steps, services = append(steps, s.Steps[i].Name), append(services, s.Steps[i].Do.Service)
	}
	return steps, services
}

// operationOf returns the operation of a mode by its name, nil without one.
func operationOf(m mode, name string) *operation {
	for _, op := range m.operations() {
		if op.name == name {
			return &op
		}
	}
	return nil
}

// operationIn returns the operation of a mode that the coordinator makes in a state, nil without one.
func operationIn(m mode, s sagaclient.Status) *operation {
	for _, op := range m.operations() {
		if op.state == s {
			return &op
		}
	}
	return nil
}

// dtmOp is the coordinator's word for an operation, in any mode.
var dtmOp = coordinatorWords()

func coordinatorWords() map[string]string {
	words := map[string]string{}
	for _, m := range modes {
		for _, op := range m.operations() {
			words[op.name] = op.dtm
		}
	}
	return words
}
