// Package simulation has no code of its own: its tests run the bridge of package transaction, whole, in gateways that
// share a simulated store, a simulated coordinator and simulated services, on a fake clock ([testing/synctest]).
//
// # What is real
//
// The bridge, its executor, sagaclient, and the idempotency filter before them, with their goroutines and
// timers. What they talk to is a model:
//
//   - the coordinator (coordinator_test.go, passes_test.go): DTM 1.19 as its source has it. It submits, queries,
//     confirms or cancels what was registered for TCC by what it had read when a pass began, delivers messages and
//     asks their query, runs sagas in passes of five seconds, calls parallel steps at once, rolls back in its own
//     order and without waiting for calls that it has given up, doubles its delays, and processes the submit of a
//     gid again that it has;
//   - the store (store_test.go): the idempotency core in memory, behind a network;
//   - the services (service_test.go): they keep the rules that PROTOCOL.md asks of a service: a repeated call is
//     done once, an undo without its do is accepted, the do that comes after it is not. A try is a do, a cancel an
//     undo; the query of a message that finds no primary rules it out.
//
// # What goes wrong
//
// It is drawn from the seed: gateways are killed at any point, and what they had in memory is lost; requests and
// responses between any two are lost, late (a do that arrives after its time) and doubled; signed calls are
// played back by somebody who has read the coordinator's data; the store is away; the coordinator restarts, or
// loses what it knows; services refuse, hang, fail after the effect, and are down. The same seed gives the same
// history: each delay is drawn by the name of what is delayed and how often it was before.
//
// # What must hold
//
// It is judged where the effects are, at the services and at the clients (judge_test.go):
//
//   - a gid is submitted at most once;
//   - no undo is sent while a do of its step is under way;
//   - a call whose end is known is not made again, and no two dispatches have one attempt number;
//   - no undo is sent for a do that was refused and never attempted before;
//   - told succeeded: every step is done, and none is undone, for good. Told failed: nothing is left, for good;
//   - one key has one transaction that succeeds;
//   - every answer that a client gets for a key, from any gateway, agrees with the others and with the end, and the
//     status resource agrees with the services;
//   - a try that took effect is confirmed or cancelled in the end, and never both; no try is sent after its cancel;
//   - a message is delivered only when its primary is done, and if it is;
//   - one that an operator was told is cancelled does not succeed;
//   - the receiver of notify is told of every end, with nothing that contradicts what clients are told;
//   - every transaction has ended 60 seconds after the last fault. What is only prepared the coordinator ends when
//     its time is over, counted from the prepare, of which one may still be on its way at the last fault: so for TCC
//     and a message with a primary the transaction's timeout and ten seconds come on top.
//
// A transaction that the coordinator has lost need not end: it is not told as ended either.
//
// Mutants (mutants_test.go) are the safeguards of package transaction, each taken out: the simulator fails for
// each of them. Each has the seed that caught it last, which is tried first.
//
// A seed draws a saga, TCC, XA, a message, or one with a primary; the flag sim.mode makes all seeds of one kind. A
// service of XA registers its branch at a gateway before it prepares it; what is prepared is done, as a try is, a
// commit confirms it and a rollback undoes it.
package simulation
