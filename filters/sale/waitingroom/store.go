package waitingroom

// Store keeps what the fleet shares of a sale's waiting room.
type Store interface{}
