package transaction

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/template"
)

// stepsBytesMax is how long the payloads of all steps may be together. DTM on MySQL keeps no more in one
// column, and of a transaction that it could not store it says nothing until its time is over.
const stepsBytesMax = 65_535

// errPayload says that the payloads of the steps are longer than the coordinator's store may take.
var errPayload = errors.New("transaction: the payloads of the steps are too long")

// forwarded are the injected fields of the client's request that its branch calls have too.
var forwarded = []string{
	"traceparent", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Via", "Sluice-Request-Id",
}

// ofTraces are the client's own fields that belong to its trace; longer ones stay behind (W3C Trace
// Context §3.3.1.5, W3C Baggage §3.3.2).
var ofTraces = map[string]int{"tracestate": 512, "baggage": 8192}

// renderStep makes the envelope of a step, and its encoding.
func (e *Executor) renderStep(x *filters.Exchange, s *Step, behind []string) (*envelope, []byte, error) {
	env := e.newEnvelope(x)
	env.FailOn, env.Behind = rangesOf(s.FailOn), behind
	var err error
	if env.Do, err = renderCall(x, &s.Do); err != nil {
		return nil, nil, err
	}
	if s.Undo != nil {
		if env.Undo, err = renderCall(x, s.Undo); err != nil {
			return nil, nil, err
		}
		env.Undo.NothingOn = rangesOf(s.NothingOn)
	}
	return env, marshal(env), nil
}

// newEnvelope is what the envelopes of all steps have.
func (e *Executor) newEnvelope(x *filters.Exchange) *envelope {
	env := &envelope{
		Transaction: e.settings.Name, Route: x.Route, Principal: x.Principal,
		RetryMax: e.settings.RetryMax.Milliseconds(),
	}
	for _, name := range forwarded {
		if v, ok := x.Inject.Lookup(name); ok {
			env.Inject = append(env.Inject, [2]string{name, v})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ofTraces)) {
		if v := x.Header.Joined(name); v != "" && len(v) <= ofTraces[name] {
			env.Inject = append(env.Inject, [2]string{name, v})
		}
	}
	if e.settings.Mode != modeSaga {
		env.Mode = e.settings.Mode
	}
	return env
}

func rangesOf(list []StatusRange) (ranges [][2]int) {
	for _, r := range list {
		ranges = append(ranges, [2]int{r.From, r.To})
	}
	return ranges
}

func renderCall(x *filters.Exchange, call *Call) (*envelopeCall, error) {
	path, query, err := template.Target(call.Path, x)
	if err != nil {
		return nil, err
	}
	out := &envelopeCall{Service: call.Service, Method: call.Method, Path: path, Query: query}
	for _, f := range call.Headers {
		value, err := template.Field(f.Value, x)
		if err != nil {
			return nil, err
		}
		out.Headers = append(out.Headers, [2]string{f.Name, value})
	}
	if call.Body != nil {
		body, err := template.Value(call.Body, x, stepsBytesMax)
		if err != nil {
			return nil, err
		}
		if out.Body, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	return out, nil
}
