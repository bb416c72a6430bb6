package filters

// Filter is one policy. One value serves a route for all its exchanges at once, so it is safe for
// concurrent use; what belongs to one exchange is kept in the slot.
type Filter interface {
	// Name is the filter's word in logs and in what explain prints.
	Name() string
	// Needs says what the filter reads of bodies. It is the same at every call.
	Needs() Needs
	// Request looks at the exchange before it goes to the service. nil lets it pass, a reply ends
	// it here. It may wait (for another attempt, for a permit); it gives up when the exchange's
	// context ends.
	Request(x *Exchange, s *Slot) *Reply
	// Response looks at x.Response, the service's or the gateway's, before it goes to the client. What
	// Request took for a call it gives back here when that is a stream ([Response.Stream]).
	Response(x *Exchange, s *Slot)
	// Done gives back what Request took. It runs exactly once for every filter whose Request was
	// called.
	Done(x *Exchange, s *Slot, o Outcome)
}

// Needs is what a filter reads of an exchange beside the heads, so that whoever carries the
// exchange can choose how it passes bodies on: an adapter that gets a request in messages asks for
// a body only where one is needed. The zero value is a filter that reads heads.
type Needs struct {
	// RequestBody: Request may call [Exchange.Body] or [Exchange.Member].
	RequestBody bool
	// Members are the paths that it may call [Exchange.Member] with. One that is not here costs a pass
	// over the body of its own.
	Members [][]string
	// ResponseBody is how many bytes of the response's body the filter may ask for with
	// [Exchange.BufferBody]; 0: none.
	ResponseBody int64
}

// Slot is a filter's own state for one exchange. The zero value is what Request is given.
type Slot struct {
	Ref any    // a pointer, so that keeping it allocates nothing
	N   uint64 // a number, a flag
}

// Outcome is how an exchange ended, as the service behind the gateway saw it.
type Outcome uint8

const (
	// Completed: the service gave a whole response, whatever its status.
	Completed Outcome = iota
	// Refused: the gateway replied by itself and nothing was sent to the service.
	Refused
	// NotDispatched: the gateway meant to forward, and nothing reached the service: no connection came
	// about.
	NotDispatched
	// NoResponse: something was sent, and no whole response came: timeout, reset, a response that
	// breaks the protocol.
	NoResponse
	// ClientGone: the client left before the response was whole and the attempt was given up for it.
	// It says nothing about the service.
	ClientGone
	// Panicked: a filter or the engine panicked. Whether something was sent tells
	// [Exchange.Dispatched].
	Panicked
)

func (o Outcome) String() string {
	switch o {
	case Completed:
		return "completed"
	case Refused:
		return "refused"
	case NotDispatched:
		return "not-dispatched"
	case NoResponse:
		return "no-response"
	case ClientGone:
		return "client-gone"
	case Panicked:
		return "panicked"
	}
	return "invalid"
}

// Counter counts events; a Prometheus counter is one. Filters count through it, so that they import
// no metrics library.
type Counter interface{ Inc() }

// Observer takes measurements in seconds; a Prometheus histogram is one.
type Observer interface{ Observe(float64) }

// Discard is a counter and an observer that keeps nothing.
var Discard discard

type discard struct{}

func (discard) Inc()            {}
func (discard) Observe(float64) {}
