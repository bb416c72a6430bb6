package sagaclient

import (
	"errors"
	"strconv"
	"strings"
)

// What a call came to. Test with errors.Is; [Error] has the particulars.
var (
	// ErrCoordinatorDown: no connection to any endpoint came about; nothing was sent.
	ErrCoordinatorDown = errors.New("coordinator is down")
	// ErrRejected: the coordinator knows the gid already, in a state that does not allow the call;
	// nothing was started. Query returns the state.
	ErrRejected = errors.New("coordinator refuses the gid")
	// ErrKnown: the coordinator has a transaction of that gid already, and nothing was submitted. Query returns it.
	ErrKnown = errors.New("gid is known")
	// ErrNotOffered: the coordinator does not have the call; nothing was done.
	ErrNotOffered = errors.New("coordinator does not offer that")
	// ErrUnknown: something was sent and whether it took effect is not known. Query; never submit
	// again.
	ErrUnknown = errors.New("outcome is unknown")
	// ErrNotFound: the coordinator does not know the gid.
	ErrNotFound = errors.New("no such transaction")
	// ErrInvalid: the transaction itself is faulty; nothing was sent.
	ErrInvalid = errors.New("invalid transaction")
	// ErrResponse: the response to a query is an error, or not one of DTM. Nothing is known.
	ErrResponse = errors.New("coordinator fails")
)

// Error is the error of every call to the coordinator; see errors.As.
type Error struct {
	Op     string // submit, query, list, …
	GID    string // empty where the call is not about one
	Kind   error  // one of the errors above
	Status int    // of the coordinator's HTTP response; 0: there is none
	Reason string // the coordinator's own words, at most 300 bytes
	Err    error  // the cause, such as that of a connection or a context; may be nil
}

// Error names the call, the gid, the outcome and what is known of its cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("sagaclient: " + e.Op)
	if e.GID != "" {
		b.WriteString(" of gid " + strconv.Quote(e.GID))
	}
	b.WriteString(": " + e.Kind.Error())
	if e.Status != 0 {
		b.WriteString(": status " + strconv.Itoa(e.Status))
	}
	if e.Reason != "" {
		b.WriteString(": " + e.Reason)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns Kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}
