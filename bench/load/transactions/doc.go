// Package transactions measures what a saga costs through the gateway beside the same saga that a program submits to
// the coordinator itself: `sluice bench transactions`.
//
// Both are three steps, one after the other, at the same services, on the same coordinator and its store; a
// caller waits for the end of one and begins the next. By hand means that the caller submits the saga with
// sagaclient and waits for the coordinator's response, with no record, no key and no branch address between;
// sagaclient costs less than dtmcli does, so the ratios are strict ones. The slices of both sides are interleaved
// in one run, round by round, and every ratio is the median over the ratios of the rounds.
//
//   - CPU is that of all processes: caller, gateway, coordinator, services, and what stores and databases run. Nothing
//     is pinned: the processes share the processors as they do on a small machine.
//   - The services either do nothing or enter DTM's barrier on MariaDB and make two or ten SQL statements in its
//     transaction.
//   - Queries to the coordinator are counted by the coordinator, calls of the store by the gateway. A good end of a
//     branch is written while the coordinator goes on, so nothing waits for that one: the others come one after
//     the other.
//
// A pair whose programs are not there is reported as missing. A bar that is missed makes the command fail.
package transactions
