package ref

import (
	"encoding/json"
	"errors"

	"github.com/sluice-gateway/sluice/filters/jsonscan"
)

// Exchange is the request that references are evaluated on; *filters.Exchange is one.
type Exchange interface {
	// Part returns the part of the request that a root names: every root but Body and Steps. The name is that of the
	// captured segment, the query's parameter or the header field; empty without one. False: the request has no such
	// part. The text is valid as long as the exchange's own are. The error says that it can be read in more than one
	// way.
	Part(root, name string) (string, bool, error)
	// Body returns the request's whole body.
	Body() ([]byte, error)
	// Member returns a member of the body, a JSON document, as it stands there; by no name, the document. False: there
	// is none. The error is one of Body, or a [jsonscan.Fault].
	Member(path []string) ([]byte, bool, error)
}

// FaultError says that a part of the request that is referred to can be read in more than one way, so that the service
// might read it in another one. It is the client's fault: 400.
type FaultError struct {
	Ref Ref
	Err error
}

func (e *FaultError) Error() string { return "ref: " + e.subject() + " " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *FaultError) Unwrap() error { return e.Err }

// Detail says to the client what is wrong, in one sentence.
func (e *FaultError) Detail() string {
	subject := e.subject()
	if subject == Body {
		subject = "The body"
	}
	return subject + " " + e.Err.Error() + "."
}

// OfPart reports whether the fault is that of the part alone, and not of the whole body that it is in.
func (e *FaultError) OfPart() bool {
	var f jsonscan.Fault
	return !errors.As(e.Err, &f) || f.OfMember()
}

func (e *FaultError) subject() string {
	if e.OfPart() {
		return e.Ref.String()
	}
	return Body
}

// Value returns what the reference stands for with its JSON type: string, [json.Number], bool or nil; an object or a
// list is a [json.RawMessage], as it stands in the body but for white space. False says that the request has no such
// part. The error is one of reading the body or a [*FaultError].
func (r Ref) Value(x Exchange) (any, bool, error) {
	if r.Root != Body {
		return r.Text(x)
	}
	v, ok, err := r.member(x)
	switch {
	case err != nil:
		return nil, false, err
	case ok:
		return r.typed(v)
	case len(r.Path) > 0:
		return nil, false, nil
	}
	b, err := x.Body() // it is no JSON document: a text
	return string(b), err == nil, err
}

// Text returns what the reference stands for as text: a number as it was written, a member that is a list or an object
// as it was written but for white space. False says that the request has no such part. The text is valid as long as the
// exchange's own are. The error is one of reading the body or a [*FaultError].
func (r Ref) Text(x Exchange) (string, bool, error) {
	switch {
	case r.Root == Body && len(r.Path) == 0:
		b, err := x.Body()
		return string(b), err == nil, err
	case r.Root == Body:
		v, ok, err := r.member(x)
		if !ok || err != nil {
			return "", false, err
		}
		return r.text(v)
	}
	name := ""
	if len(r.Path) > 0 {
		name = r.Path[0]
	}
	text, ok, err := x.Part(r.Root, name)
	if err != nil {
		return "", false, &FaultError{r, err}
	}
	return text, ok, nil
}

func (r Ref) member(x Exchange) (jsonscan.Value, bool, error) {
	v, ok, err := x.Member(r.Path)
	if err != nil {
		return nil, false, r.fault(err)
	}
	return v, ok, nil
}

// fault says in an error of the body's document which reference it is about.
func (r Ref) fault(err error) error {
	var f jsonscan.Fault
	if errors.As(err, &f) {
		return &FaultError{r, err}
	}
	return err
}

func (r Ref) text(v jsonscan.Value) (string, bool, error) {
	text, err := v.Text()
	if err != nil {
		return "", false, r.fault(err)
	}
	return text, true, nil
}

func (r Ref) typed(v jsonscan.Value) (any, bool, error) {
	switch v.Kind() {
	case jsonscan.Object, jsonscan.List:
		return json.RawMessage(v.Compact()), true, nil
	case jsonscan.True, jsonscan.False:
		return v.Kind() == jsonscan.True, true, nil
	case jsonscan.Null:
		return nil, true, nil
	}
	text, ok, err := r.text(v)
	if v.Kind() == jsonscan.Number {
		return json.Number(text), ok, err
	}
	return text, ok, err
}
