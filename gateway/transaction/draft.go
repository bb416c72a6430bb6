package transaction

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/gateway/template"
)

// draft is a call that was rendered with the request. Where it refers to responses of steps those are put in later.
type draft struct {
	ready *envelopeCall // nil: something is missing
	// what is missing something; references to anything but steps are expanded
	call Call
	// steps are the names of those whose responses it refers to.
	steps []string
}

// newDraft renders a call with the request. Nothing in it is the exchange's any more.
func newDraft(x *filters.Exchange, call *Call) (*draft, error) {
	d := &draft{steps: stepsOf(call)}
	if len(d.steps) == 0 {
		ready, err := renderCall(x, call)
		if err != nil {
			return nil, err
		}
		d.ready, err = owned(ready)
		return d, err
	}
	d.call = Call{Service: call.Service, Method: call.Method}
	var err error
	if d.call.Path, err = template.PartialTarget(call.Path, x); err != nil {
		return nil, err
	}
	for _, f := range call.Headers {
		value, err := template.PartialText(f.Value, x)
		if err != nil {
			return nil, err
		}
		d.call.Headers = append(d.call.Headers, Field{f.Name, value})
	}
	d.call.Body, err = template.Partial(call.Body, x, stepsBytesMax)
	return d, err
}

// stepsOf returns the names of the steps whose responses a call refers to.
func stepsOf(call *Call) []string {
	names := append(template.Steps(call.Path), template.Steps(call.Body)...)
	for _, f := range call.Headers {
		names = append(names, template.Steps(f.Value)...)
	}
	return names
}

// owned returns a copy of something that is written as JSON: the texts of a request lie in buffers that are used again.
func owned[T any](v *T) (*T, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out := new(T)
	return out, json.Unmarshal(b, out)
}

// complete puts in the responses of the steps. The error is a stepError.
func (d *draft) complete(responses *template.Responses) (*envelopeCall, error) {
	if d.ready != nil {
		return d.ready, nil
	}
	out := &envelopeCall{Service: d.call.Service, Method: d.call.Method}
	var err error
	if out.Path, out.Query, err = responses.Target(d.call.Path); err != nil {
		return nil, responseFault(err)
	}
	for _, f := range d.call.Headers {
		value, err := responses.Field(f.Value)
		if err != nil {
			return nil, responseFault(err)
		}
		out.Headers = append(out.Headers, [2]string{f.Name, value})
	}
	if d.call.Body != nil {
		body, err := responses.Value(d.call.Body, stepsBytesMax)
		if err != nil {
			return nil, responseFault(err)
		}
		if out.Body, err = json.Marshal(body); err != nil {
			return nil, responseFault(err)
		}
	}
	return out, nil
}

// responseFault says why a call cannot be made from the responses.
func responseFault(err error) error {
	var missing *template.MissingError
	var fault *ref.FaultError
	switch {
	case errors.As(err, &missing):
		return stepError("it needs " + missing.Ref.String() + ", and the response has none")
	case errors.As(err, &fault):
		return stepError("the response that it needs can be read in more than one way")
	case errors.Is(err, template.ErrTooLong):
		return stepError(fmt.Sprintf("with the responses that it needs its calls are longer than %d bytes",
			stepsBytesMax))
	}
	return stepError("the response that it needs does not fit")
}
