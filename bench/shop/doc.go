// Package shop is the sample shop behind the gateway: order, stock, payment, points and shipping,
// five services as a shop would have them, each with its own SQLite file. The demo runs it, and
// tests read from it what really happened.
//
// # Services
//
// All five are one kind of thing: records with an id that are made and can be taken back.
//
//	stock     POST /v1/reservations {id, sku, qty}            /v1/reservations/{id}/release   409 sold-out
//	order     POST /v1/orders {id?, user, sku, qty, amount?}  /v1/orders/{id}/cancel
//	payment   POST /v1/payments {id, user, amount}            /v1/payments/{id}/refund        402 card-declined
//	points    POST /v1/points {id, user, amount}              /v1/points/{id}/revoke
//	shipping  POST /v1/shipments {id, user?, sku?, qty?}      /v1/shipments/{id}/cancel
//
// GET on the record's path returns it; stock also has GET /v1/stock and /v1/stock/{sku}. Amounts
// are whole minor units (cents). A response is the record, {id, number, state, user, sku, qty,
// amount}: 201 when it was made, 200 when it was there already. 422 {reason} is a request that
// makes no sense, 404 an unknown id, 409 {reason} one that has another content or was taken back.
//
// The injected header fields are used through package participant: a repeated request, with its key
// or as a branch of a transaction, takes effect once. [Options.Naive] switches that off; then only
// the gateway stands between a buyer and a second charge.
//
// # Witness
//
// GET /ledger is the append-only list of effects with the key and attempt that each came with,
// totals by kind, and executions by key. GET /stats counts the requests that arrived, by route and
// by key, those without an effect too. [Audit] reads the ledgers of all services and says whether
// they agree. POST /faults makes requests slow, fail, hang, or lose their response after the
// effect.
//
// # Capacity
//
// A service with a [Capacity] has that many workers and an unbounded queue in front of them, and
// finishes what its clients have given up; POST /capacity {workers, latency} changes it while it
// runs. Load tests use it: what is behind the gateway has to be what the gateway protects.
//
// # Durability
//
// WAL with synchronous=NORMAL: a killed process loses nothing, a machine without power may lose the
// last commits, never the order of them. The shop is killed in tests, machines are not; with FULL
// the disk would dominate measurements. One connection writes; others read.
//
// Memory: /stats counts by key for the first 100000 keys.
package shop
