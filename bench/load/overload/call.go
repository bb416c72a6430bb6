package overload

import (
	"time"

	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

// request is what a client wants. It makes one attempt or more.
type request struct {
	stream    *stream
	class     limiter.Class
	principal uint64
	greedy    bool
	obeys     bool // waits for Retry-After
	born      time.Duration
	draw      uint64 // decides to which gateways its attempts go
	attempts  int
	comeBack  time.Duration // as the last Retry-After said
	unknown   bool          // nobody knows whether an attempt of it was served
	stepsSent int           // steps whose call reached a service, by whatever attempt
}

// attempt is a request at a gateway. The client waits for it until it is over.
type attempt struct {
	*request
	number  int
	gateway *gateway
	at      time.Duration
	demoted bool // comes before Retry-After is over
	steps   bool // a transaction's, which makes more than one call
	doored  bool // let in at the door
	over    bool
	step    int
	calls   []*call // of its steps; at a door all are there from the start
}

// call is one attempt's use of one service.
type call struct {
	*attempt
	service int
	asked   time.Duration // when the controller was asked
	sent    time.Duration // when the service got it
	undo    bool          // undoes a step; never shed
	stage   stage

	// What our own limiter keeps of it.
	waiter      limiter.Waiter
	permit      limiter.Permit
	reservation limiter.Reservation
	reserved    bool
}

type stage uint8

const (
	atDoor stage = iota
	waiting
	atService
	ended // nobody waits for it any more; a service may still work on it
)
