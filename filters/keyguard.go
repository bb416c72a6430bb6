package filters

// KeyClaimer is the filter that claims the key of a request. What refuses requests behind it may know of some that it
// will refuse whatever their key's record says; a chain tells the claimer of those filters. A chain has one claimer.
type KeyClaimer interface {
	Filter
	// GuardKeys has guards asked before each claim, in their order. It is called before the filter serves.
	GuardKeys(guards []GuardOfKeys)
}

// Keys is what a process knows of keys without asking their store.
type Keys interface {
	// Known reports whether the key of the exchange has a record, or had one a short time ago, as far as this process
	// has seen. False says nothing: another process may have claimed the key, or this one long ago.
	Known(x *Exchange) bool
}

// KeyGuard is a filter behind a [KeyClaimer] that can refuse a request before its key is claimed, so that the refusal
// costs no step of the store.
type KeyGuard interface {
	Filter
	// BeforeClaim looks at a request that has its key (x.Logical.Key). nil lets it go on to its claim. A refusal may
	// meet a request of which an earlier attempt was executed. So it is one of two: one that is right whatever the
	// record says, or one that says of this attempt alone that nothing was done, and that it may come again with its
	// key. The second kind lets go on what keys knows.
	//
	// What it keeps of a request that goes on is in s, which Request is given, or else Withdraw.
	BeforeClaim(x *Exchange, s *Slot, keys Keys) *Reply
	// Withdraw gives back what BeforeClaim kept in s. The request ends before the guard, or it waits for another one
	// with its key; then it may come to Request all the same, with an empty slot. It is called where s is not empty.
	Withdraw(x *Exchange, s *Slot)
}

// GuardOfKeys is a guard at its place in a chain.
type GuardOfKeys struct {
	guard KeyGuard
	at    int
}

// Name returns the filter's name.
func (g GuardOfKeys) Name() string { return g.guard.Name() }

// BeforeClaim has the guard look at a request.
func (g GuardOfKeys) BeforeClaim(x *Exchange, keys Keys) *Reply {
	return g.guard.BeforeClaim(x, &x.slots[g.at], keys)
}

// Withdraw tells the guard that the request does not come now. It is safe to call again.
func (g GuardOfKeys) Withdraw(x *Exchange) {
	s := &x.slots[g.at]
	if s.Ref == nil && s.N == 0 {
		return
	}
	defer func() { *s = Slot{} }()
	g.guard.Withdraw(x, s)
}
