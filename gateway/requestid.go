package gateway

import (
	"bytes"

	"github.com/sluice-gateway/sluice/filters"
)

// requestIDField names a request, to its client, to the service and in logs.
const requestIDField = "Sluice-Request-Id"

// requestID returns the id of a request, and gives one to a request that was refused before it had any.
func requestID(x *filters.Exchange) string {
	id := x.Inject.Get(requestIDField)
	if id == "" {
		id = x.Text(appendRandom(x.Scratch(), 2))
		x.Inject.Add(requestIDField, id)
	}
	return id
}

// identifyProblem puts the id of the request into a problem document that does not have one yet, so that a client
// that keeps nothing but the body can still say which request it was. That a transaction failed is no request's:
// whoever finds it records it, the bridge among them, and every duplicate gets the same document.
func identifyProblem(x *filters.Exchange) {
	r := &x.Response
	end := []byte("}\n")
	if r.Reason == "" || r.Reason == filters.TransactionFailed || !bytes.HasSuffix(r.Body, end) ||
		bytes.Contains(r.Body, []byte(`"request_id":`)) ||
		r.Header.Get("Content-Type") != "application/problem+json" {
		return
	}
	body := make([]byte, 0, len(r.Body)+64) // a copy: a reply may be used for many requests
	body = append(body, r.Body[:len(r.Body)-len(end)]...)
	body = append(append(body, `,"request_id":"`...), requestID(x)...)
	r.Body = append(append(body, '"'), end...)
}
