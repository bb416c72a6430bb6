// Package idempotency measures what idempotency keys cost on each store: `sluice bench
// idempotency`.
//
// The contenders are gateways with one store each, and each load is a POST of 512 bytes: without a
// key, with a fresh key, and with keys that have a recorded response (a replay; a thousand of them
// in turn, so that no two are in flight at once and joined). The gateway's own count of claims and
// replays has to agree, else the figure does not count. What a key costs is the ratio, or the
// difference, to the POST without one through the same gateway in the same round. How it is
// measured stands in package measure.
//
//   - One rate: the POST with a fresh key and the one without are also sent at 10,000 a second each. At full rate the
//     one with a key waits for its store and rests in between, and a gateway that is woken takes more CPU time than one
//     that goes on; so the mark of what a key adds on Redis is taken at the same rate.
//   - The disk: before each round one writer appends 4 KiB to a file beside the records and waits
//     for fdatasync(2), over and over. A keyed request waits for two steps on disk, so that c
//     clients get no more than c × fsyncs/s ÷ 2 through, whatever the gateway does; the mark of the
//     rate that is achieved asks for no more.
//   - Live records: a fresh gateway is filled with records that do not expire, and its memory is
//     read when it does not change any more. The mark holds for Pss of the whole process, garbage
//     and all.
package idempotency
