// Package waitingroom decides who of those that want to buy in a sale is admitted, and when: at the sale's rate, in the
// order of their arrival, and in an order drawn by lot for those who came before it opened. Who is not admitted yet is
// told its place (202), with a ticket that keeps it.
//
// # Algorithm
//
// A virtual queue of numbers, as in AWS Virtual Waiting Room and other products of the kind: who cannot be admitted at
// once is given the next number, and the fleet shares the number up to which all are called. This is the [Line]. It is
// a few numbers whatever the length of the queue, since everybody carries its own number.
//
// A [Room] is one gateway's part. It exchanges with the line every 100 ms while requests come, and every 20 ms at most
// while some wait for it: it is granted admissions (tokens of a bucket, sized by what it used lately) and as many
// numbers as buyers wait for one. So no request costs a call of the store of its own, and while nobody has to wait
// none waits for the store: admissions are leased ahead of need. Places are told from memory.
//
// Who has to wait is told so before the key of its request is claimed ([Room.Wait]), so that a poll costs no step of
// the store of keys. That admits nobody: an admission is taken behind the claim ([Room.Enter]), by a request that
// uses it.
//
// Two things are kept apart. The rate is held by the tokens: the line gives out Rate a second, and what is left unused
// for longer than 100 ms (500 ms while buyers wait) is lost. The order is held by the number that is served. If that
// moved at the rate, each buyer who left would be an admission that nobody uses. So a PI controller moves it: faster
// when admissions stay unused, slower when buyers who were called come in vain. It aims at a backlog of 0.6 s. Half of
// those who got a number may leave, and the rate is still admitted after some seconds; up to seven of eight.
//
// # Order
//
// Numbers are given out in batches of 20 ms at each gateway, so who comes 20 ms and a round trip later has a higher
// number. Buyers are called in the order of their numbers and come when they were told to; Retry-After is in whole
// seconds. Of those who are called and wait at a gateway, the lowest numbers are admitted first. So a buyer may pass
// another one by a second or two.
//
// Who comes within OpensBefore waits without a number. When the sale opens, the line freezes how many there are (n, a
// HyperLogLog sketch of 2 KiB that all gateways raise), and each of them has the number
//
//	1 + ⌊n × lot⌋, lot = HMAC-SHA256(secret, sale, opens, principal) / 2^256
//
// The lot is the same however often a principal asks, so nobody gets a better one by asking more; nobody can tell it
// without the secret; and it is kept nowhere. Lots of one principal in two sales have nothing to do with each other. n
// is estimated to 2.3 %, which the controller evens out. Those who come later have the numbers behind n.
//
// # Tickets
//
// A ticket is base64url of 41 bytes: what it is (early, queued, admitted), the number, how far the line was, the
// expiry, and 16 bytes of HMAC-SHA256 over all that, the sale, its opening and the principal. It goes out and comes
// back in a field (programs) and in a cookie (browsers: HttpOnly, SameSite=Lax, and Secure over https). A ticket that
// is forged, has expired or is another principal's is as none, and its bearer is told so. One who waits gets a new
// expiry with each reply; an admission ends TicketTTL after it was given, and until then its bearer passes as often as
// it likes: a purchase that failed is tried again without a queue.
//
// A principal has one place. Who comes again without its ticket gets the same one from the gateway's memory of the last
// 8,192 principals. Once it is forgotten, and at another gateway, it gets a further number behind all others. That
// gains nothing: the first one would have been called before, and numbers whose holders do not come are passed over.
// Who shows the ticket of its number again after it was admitted takes no further admission at a gateway that remembers
// it; at another gateway it takes one.
//
// # Browsers
//
// A browser that wants to show a page (Accept has text/html, Sec-Fetch-Mode is navigate or missing) gets one. After a
// GET it loads itself again when it is time, without a script (meta refresh). A browser does not send a form again by
// itself: after a POST the page has the form's fields and a button that sends them again. It has them for
// application/x-www-form-urlencoded up to 16 KiB and 64 fields, and if a page of the same origin sent the form: a form
// from elsewhere would be sent again as this site's own, with cookies that SameSite held back. Else it asks to go back
// and send the form again.
//
// # Invariants
//
//   - Admissions in any span ≤ Rate × (span + 500 ms), over all gateways, and what they have leased: each as much as it
//     used within the last 125 ms. Bearers of an admission are not counted again.
//   - Nobody without a number is admitted while there are some who were not called, or were called in vain within 2 s.
//   - A number is given out once, but for those of who came early, which may be equal.
//   - A sale opens by the clock of the store, and once.
//
// # Memory bound
//
// 512 KiB a sale at a gateway (who got which ticket), 4 KiB for those who came early, and nothing for each buyer. At
// most 256 requests that were called wait for an admission, for up to 50 exchanges (a second). Those without a number
// wait for four exchanges at most.
//
// # Failure policy
//
// While the store does not answer nobody is newly admitted beyond what was leased (at most a second). Who was admitted
// passes, who has a ticket keeps its place and is told the last one that was known, and everybody else is refused
// (store-unavailable). A store that lost its memory takes over what gateways and tickets know: nobody loses its place,
// but for the lots of those who came early and did not come back since the opening, who are then served first. A clock
// that steps gives at most what may be caught up. A request that was admitted and came to nothing gives nothing back:
// its principal is admitted all the same.
package waitingroom
