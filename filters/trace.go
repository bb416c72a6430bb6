package filters

// Trace is the record of an exchange that is traced. It is safe for concurrent use. What it is given it copies.
type Trace interface {
	// Decided notes what a policy has decided, and about what: a limit, a service, an item; "" is nothing more.
	Decided(policy, decision, subject string)
	// Attempt begins an attempt at a service, and sets the field by which the service knows it.
	Attempt(x *Exchange, service string) Attempt
	// IDs returns the identifiers of the trace and of the exchange's span in it, as hexadecimal digits.
	IDs() (trace, span string)
}

// Attempt is one attempt of a traced exchange at a service.
type Attempt interface {
	// End ends it, with the head of a response or without.
	End(AttemptEnd)
}

// AttemptEnd is where an attempt went, and how it ended.
type AttemptEnd struct {
	Address string // that was connected to
	Host    string // of the endpoint as it is configured, with a port; both are empty where they are not known
	TLS     bool
	Status  int // of the response; 0: there was none
	// Without a response: why, as one of a fixed list, and what it means.
	Fault, Detail string
}

// TracedObserver is an observer that can name the exchange that a value is of.
type TracedObserver interface {
	Observer
	ObserveTraced(v float64, of Trace)
}

// Observe observes a value, and names the exchange where it is traced and the observer takes that.
func (x *Exchange) Observe(o Observer, v float64) {
	if x.Trace != nil {
		if t, ok := o.(TracedObserver); ok {
			t.ObserveTraced(v, x.Trace)
			return
		}
	}
	o.Observe(v)
}

// Decided notes in the trace of the exchange, where it has one, what a policy has decided.
func (x *Exchange) Decided(policy, decision, subject string) {
	if x.Trace != nil {
		x.Trace.Decided(policy, decision, subject)
	}
}

// replied notes that a filter has replied, and why.
func (x *Exchange) replied(policy string, r *Reply) {
	if x.Trace == nil {
		return
	}
	decision, subject := string(r.Reason), ""
	if decision == "" {
		decision = "replied"
		if _, replayed := r.Header.Lookup("Idempotent-Replayed"); replayed {
			decision = "replayed"
		}
	}
	if p := r.Problem; p != nil {
		if subject = p.Limit; subject == "" {
			subject = p.Service
		}
	}
	x.Trace.Decided(policy, decision, subject)
}
