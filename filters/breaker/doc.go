// Package breaker stops calls to a service that is failing, and lets a few through to see when it
// has recovered.
//
// A breaker is closed (all calls pass), open (all are refused for a while) or half-open (a few
// probes pass, and their results decide). It is the circuit breaker of Nygard, "Release It!"
// (2007), with the shares of failed and of slow calls of resilience4j. One [Breaker] belongs to one
// service; the routes to it share it, and it outlives a reload of the configuration.
//
// # What is gobreaker's and what is ours
//
// The state machine is github.com/sony/gobreaker/v2: the three states and the changes between them,
// how many probes may be out while half-open, that all of them must succeed to close, that one
// failure opens again, and that an excluded result gives its place back. Around it we add what it
// lacks:
//
//   - The window. gobreaker counts successes and failures; we also count slow calls, and only
//     results that are known, so that requests which are still running do not dilute the share. Ten
//     buckets cover the window, so it spans between nine tenths of its length and the whole. When
//     the window says so, gobreaker is told one failure that trips it. While the breaker is closed
//     it is not called at all, so that a request costs neither its callback nor its lock. Nor does it take
//     ours for its permit, but in a ramp: it does where its result is counted, since the order of the
//     results decides.
//   - Time. gobreaker reads the clock itself. Here time is an argument: we decide how long the
//     breaker stays open, and gobreaker's own timeout is one nanosecond, so that it has no effect.
//   - Leases. In gobreaker a probe whose result never comes keeps its place forever, and the
//     breaker then refuses forever. Here a probe has a lease, the longest that the head of a
//     response can take. When it is over, the probe is given back as excluded, and a result that comes later is not
//     counted.
//   - Permits as values. Allocation and callbacks happen for probes only; a permit that is given
//     back twice counts once.
//
// # What counts
//
// A call is judged by the head of its response, and its permit is given back there: how long a body
// is says nothing about the service, and how fast it is read says something about the client. A
// [Failure] is a response with a status of 500 or above, none at all, or no connection. A slow call
// is one whose head took longer than Slow.Over, less the time for which its client was waited for within
// the body that it sends. A response of 4xx is [Rejected]: the request is at
// fault, so it is neither a success nor a failure, nor slow. Any other response is a [Success]. A
// call is [Ignored] when it says nothing about the service: the client left, or its own time was
// over; the gateway refused the request after all, or had no room for it; or it panicked before
// there was a response.
//
// A call of gRPC is judged by its status. UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and
// DATA_LOSS are failures, OK is a success, CANCELLED is ignored, and the others are rejected. Where
// the head has none, it is behind the body: the call is taken for a success at its head, and one
// that turns out a failure is taken back. DEADLINE_EXCEEDED within a second is ignored where the
// client has named a deadline: else clients with short ones would open the breaker for all.
//
// A response that breaks or falls silent behind its head makes a failure of its success
// ([Permit.Retract]), as long as the closed state lasts that has the success. A stream's does not:
// where streams are long, each restart of a service ends all of them, and nothing follows from that
// for the next call. What a probe takes back opens the breaker again, or counts in the closed state
// that the probe led to.
//
// Closed, the breaker opens when at least MinRequests calls ended in the window and the share of
// failures or of slow calls among them has reached its limit. Both shares are taken of the same
// calls, and one that failed and was slow counts in both. Half-open, a failure opens it at once;
// slow probes open it when their share of Probes reaches Slow.Share. A rejected probe gives its place
// back and counts as nothing; but when the half-open state has lasted for a whole window it counts as
// a success, since a service that has nothing else to say would never close. A result that belongs
// to an earlier state than the present one is not counted.
//
// # Open times and the ramp
//
// The nth time in a row that the breaker opens it stays open n times OpenFor, at most OpenMax, and up
// to Jitter of that longer by chance, so that the gateways of a fleet do not probe all at once. In a
// row means that a probe failed, or that it opened within Ramp and Window after it had closed.
//
// Once it has closed, the calls come back over Ramp: of those that come a share passes which grows
// from a tenth to all of them in a straight line, evenly spaced. The others are refused. Whoever is
// refused, be it open, half-open or in the ramp, is told to come back at a time that is spread over
// the ramp, so that the end of a state brings no crowd.
//
// [Breaker.Ready] is for those who begin something that leads to the service later, such as a
// transaction. It takes no permit. The ramp bounds what it lets begin, and so does the number of
// probes, a second, while the service is probed; the calls that follow, by [Breaker.AcquireBegun], are
// then not held up by the ramp, since to refuse them would undo what has been done.
//
// # The operator
//
// [Breaker.Force] has the breaker open or closed until it is [Auto] again; nothing is counted
// meanwhile. Behind a forced open state the next calls are probes, and then comes the ramp. Behind a
// forced closed one the window is empty. A new configuration does not change it; a restart does.
//
// # Invariants
//
//   - While half-open, at most Probes permits are out whose lease still runs.
//   - Whatever results are lost: once the longest open time and then Lease have passed, a probe gets
//     through, unless the breaker is forced open.
//   - No callback runs under the breaker's lock; changes of state are reported in their order.
//
// # Memory bound and failure policy
//
// The memory is fixed: ten buckets and at most Probes leases. The breaker keeps its state in the
// process and asks no store, so it has no failure of its own.
package breaker
