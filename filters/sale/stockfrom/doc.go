// Package stockfrom reads from a service how many units of an item it has, for a sale whose stock is not written in
// the configuration.
//
// # Algorithm
//
// What was read is older than the purchases that ended while it was on its way. So a reading notes first how many units
// of the item are confirmed (c), and asks the service then (u units are there). From then on
//
//	total = c + u
//
// units may be taken in all, those that are taken already among them; that many are left as were read, less those that
// were taken and not confirmed before the read. The service had counted every purchase of c when it was asked. One that
// it had counted as well, and that is confirmed later, is counted twice until the next reading: too few units are
// offered for that long, and never too many. That c is an older number, of a memory beside the store, errs to the same
// side.
//
// An item is read when it is asked for and its last reading is older than Every, by one call at a time; requests do not
// wait for it but the first, for which there is no number yet. Gateways read each for itself. Whichever of their
// readings is used, the sum is the same as long as units leave the service by the sale only; else it is that of the
// last one.
//
// # Invariants
//
//   - For a service that sells through the sale only: taken ≤ units that it had, whatever the order of confirmations
//     and readings.
//   - One call an item is under way at a time, and at most CallsMax in all.
//
// # Memory bound
//
// At most Items items are known, 200 bytes each beside their names (255 bytes at most). One that was not asked for
// lately makes room for another, those first that the service does not have: clients choose names.
//
// # Failure policy
//
// While the service or the store does not answer, the last reading stays, however old, and its age is in the status: no
// more is sold than it allowed. An item without a reading cannot be sold, [ErrUnread]. One that the service does not
// have (404 or 410) is not part of the sale, [ErrNoItem], until a later reading says otherwise.
package stockfrom
