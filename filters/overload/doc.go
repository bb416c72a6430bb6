// Package overload bounds how many calls a service works on at a time, and decides which requests
// wait and which are shed when more come than it can do.
//
// A [Limiter] belongs to one service. All routes to it share it, and it outlives a reload of the
// configuration. It is pure: time is an argument, and it starts no goroutine.
//
// # The limit
//
// The limit is fixed, or follows what the service can do. More calls in flight than the knee bring no more
// responses a second: they only wait inside the service. The knee is the throughput times the latency
// without waiting (Little's law; so does BBR, Cardwell et al. 2016, for packets). So the limit that
// is aimed at is
//
//	limit × baseline / latency × headroom
//
// This is the gradient of Netflix' concurrency-limits and of Envoy's adaptive concurrency. All rests
// on the baseline, the latency while nothing waits inside. Both take it for the lowest or the
// mean latency of some time, and fail in one of two ways. Overload that creeps up lifts the baseline, and
// the limit with it. Or the service itself becomes slower, the baseline does not follow, and the limit
// shrinks below the knee, which costs throughput. Envoy therefore pins the limit to a minimum now and then
// to measure again, and sheds while it does.
//
// Here the two are told apart by what the limit itself does to the latency. While the limit is
// reached, it goes down by a fifth for some calls and up again, at times that differ from replica to
// replica. The elasticity of the latency says what that did: with calls waiting inside, the latency goes with
// their number (elasticity 1); with a service that is slow, it does not (0). The
// excursion is in the middle of a round, so that a trend does not look like its effect. Since a
// limit in its place is headroom above the knee, an excursion ends at the knee and costs nothing.
//
// A latency runs to the head of the response. The time for which a client was waited for within the body that
// it sends is none of the service's and is taken off; the permit is held meanwhile.
//
//   - The baseline is measured while few calls are in flight, and falls at once when the service is
//     faster. It goes up only when the elasticity says that the service is slower.
//   - The limit goes down only when the elasticity says that calls wait inside. It goes up while the
//     latency is near the baseline and the limit is reached. A limit that is not used does not grow.
//   - Each conclusion waits for as many calls as the variation of the latency asks for.
//   - Failures do not count as speed; a slow one counts as slow. Calls that the service dropped (429, 503,
//     no response in time) take the limit down.
//
// Of several gateways before one service, each sees less of what its own limit does: with n of
// them the elasticity of a full service is about 1/n, which looks like a slower one. So their number is told
// ([Settings.Gateways], [Limiter.SetGateways]). With others the limit goes down unless it is disproved that
// calls wait, and the baseline goes up on much evidence only: when the service becomes slower, it takes a minute
// or so until the limit follows. Where their number is not told, one gateway is assumed, but others are suspected
// once the baseline would be more than about three times what was measured while few calls were in flight.
// That bounds what several gateways can do that do not know of each other.
//
// # The queue
//
// Who finds the limit reached waits, by class, within it by rank, within that in the order of
// arrival. Ranks are: reserved, first tries, first tries of a principal that had more than its share
// of late, demoted ones (of a key or principal that was shed a moment ago, see [ShedMemory]), and
// both. Before a request comes into the queue, its wait is estimated: those who would be served before
// it, by the permits that better levels leave. It is shed at once when that is too long. So hardly
// anybody waits in vain, and who is shed hears of it at once.
//
// Too long is [Settings.QueueWait], as long as the queue is a burst. When even those who waited least have
// waited longer than a target for an interval, the queue stands (CoDel, Nichols and Jacobson 2012; "Fail
// at Scale", Maurer 2015): it serves nobody more than a short one. From then on the target counts, a
// part of the service's latency; it is longer when little more comes than fits, since a short queue then runs
// empty. Levels that fit with all better ones are exempt from it: so a critical class that fits is served
// whatever else comes. What fits is judged by the permits that come back at the moment, for the critical class
// also by those of the last second: a few slow calls in a row do not make it too much. A critical request that has
// waited for QueueWait all the same is let in beyond an adaptive limit, by two calls or a fourth of it at most:
// where the limit is some calls, all of them can be slow ones. Both are for one gateway or two before a service: of
// four, each with a limit of two or three calls, two more of each took the critical class from 97 to 90 % in the
// simulator.
//
// This is admission by a threshold of class and user that follows the
// queueing delay, as in WeChat's DAGOR (Zhou et al. 2018) and Uber's Cinnamon, but computed for each level
// from what comes and what is served. Where the estimates do not hold, since the service stalls, levels that
// do not fit are served newest first.
//
// When the queue is full, the last of the least important gives up its place to somebody better.
//
// # Announcements
//
// A request may have a step to take before it comes to the limiter, such as the claim of its key, which is in vain
// when it is shed then. [Limiter.Announce] sheds it before. It decides as Acquire would now, behind those that were
// announced and have not come yet. So of the steps as many are under way as there is room for, and a step that takes
// longer is begun less often: a store that is slow is not given more than the service can use. [Limiter.AnnounceDoor]
// is the same for Reserve. While the limiter sheds nobody, announcing costs one atomic load and nobody is counted on.
//
// Critical requests are not announced by the filters: what is expected of others does not shed them.
//
// # Reservations
//
// [Limiter.Reserve] is asked at the door of a transaction, for each service that it will call. It
// lets in what the service can complete between the door and the call, and what the limit holds
// (Little's law again, with the time between them as measured). A call that comes with a reservation is never
// shed: it waits in front of its class, and when its wait is over it is admitted above the limit.
//
// # Invariants
//
//   - Permits in flight are at most the limit, but for exempt and reserved calls, and those that were
//     admitted before the limit went down.
//   - At most QueueSize wait, none longer than QueueWait, and none past the time at which its own deadline
//     could still be kept.
//   - A waiter gets one verdict, or none after [Limiter.Leave].
//   - While somebody waits, the limit is reached.
//   - Whoever is expected comes with Request.Announced, or is withdrawn. The chain of the filters sees to it.
//   - What is exempt is admitted at once, what is reserved is admitted in the end.
//   - A clock that steps back stands still.
//
// # Cost, memory bound and failure policy
//
// An admission and its release cost about 0.2 µs and no allocation, under one mutex; a decision to shed
// takes constant time. A limiter has 64 KiB for the fairness among principals and nothing that grows with
// them; a waiter belongs to the caller, and at most QueueSize are referred to. The package keeps all in the
// process and asks no store, so it has no failure of its own. What a permit's owner owes is one
// Release; the filter does it in Done.
package overload
