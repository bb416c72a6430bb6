// Package sagaclient submits global transactions to DTM, queries their state, and finds those that
// have not ended. It is a module of its own that requires nothing but the standard library.
//
// # One submit a gid
//
// DTM runs a transaction's actions again when its gid is submitted twice while the first still runs
// (dtmsvr/api.go, svcSubmit), and it may respond with 200 for a transaction that it failed to
// store. So a gid is submitted at most once: [Client.Submit] tries another endpoint only while it
// is certain that nothing was sent (the connection was not made), and reads the transaction back
// before it reports success. After [ErrUnknown] the caller queries, and never submits again.
//
// A client does not see who else submits: a gid has one owner, the gateway's idempotency record.
//
// # What is sent
//
// Byte for byte what DTM's own client, dtmcli, sends for the same transaction; a test holds one
// against the other. This package does without dtmcli, which ignores contexts, has no default
// time-out, reports every failure as a string, and links MongoDB, Redis and gRPC. Package fromdtmcli
// beside this one submits what a program has built with dtmcli.
//
// # In use
//
// [Client.SubmitAndWait] submits a [Saga] and returns its end, or that it goes on. TCC, XA and
// messages are a [Global]: [Client.Prepare], [Client.RegisterBranch], [Client.SubmitPrepared],
// [Client.Abort]. Every error of a call is an [*Error], of one of six kinds.
//
// # gids
//
// [NewGID] and [GIDFor] make them. 8 to 60 of [0-9a-z]; all gids of one coordinator should have one
// length: DTM's bolt store loses branches when a gid is the beginning of another (boltdb.go,
// tGetBranches), and its SQL stores put the gid into statements.
//
// # Failure policy
//
// Every call is bounded by the caller's context and by [Options.Timeout]. Responses of more than 8
// MiB are refused. A client has no state but its connections and the number of the endpoint that
// responded last.
package sagaclient
