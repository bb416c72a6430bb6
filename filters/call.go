package filters

// Call is whose call an exchange is. The zero value is the request of a client.
type Call uint8

const (
	// ClientCall is the request of a client.
	ClientCall Call = iota
	// DoCall is a step of a transaction that has begun: do, action, try. To refuse it delays the
	// transaction, for which earlier steps may have been done.
	DoCall
	// UndoCall ends what a step has begun: undo, compensate, confirm, cancel. It is counted like any
	// other call and never refused for want of room.
	UndoCall
	// ProbeCall asks a service what became of a request.
	ProbeCall
)
