// Package demo runs the product on one machine: the sample shop and the gateway in this process,
// the transaction coordinator as a child process.
//
// Everything is kept in one data folder: the shop's ledgers, the gateway's records, the
// coordinator's transactions, the configuration (sluice.yaml, written anew at every start) and the
// addresses (ports.json). A second run takes the same addresses again, because the coordinator
// stores the URL of the gateway's branch address with a transaction that has not ended. A lock
// keeps two demos from sharing a folder.
//
// The parts start from the back (shop, coordinator, gateway) and stop from the front, so that what
// is in flight can end. A coordinator that dies is restarted, with growing pauses.
package demo
