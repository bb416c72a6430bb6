package idempotency

import "github.com/sluice-gateway/sluice/filters"

// replayed is the memory in which a recorded response lies until its client has it, used again and again: a replay
// allocates nothing. What goes to others than the client of its exchange is a clone.
type replayed struct {
	room     []byte // for what the store has to copy
	response OpenedResponse
	reply    filters.Reply
}

// replayRoomMax is how many bytes a handle carries into the next request. Responses of more are the collector's.
const replayRoomMax = 16 << 10

// makeRoom has the next response of that length find room. This one may lie in the store's own memory.
func (r *replayed) makeRoom(n int) {
	if n > cap(r.room) && n <= replayRoomMax {
		r.room = make([]byte, 0, max(n, 512))
	}
}

// reset lets go of what the memory refers to.
func (r *replayed) reset() {
	r.response.reset(replayRoomMax)
	clear(r.reply.Header)
	r.reply = filters.Reply{Header: r.reply.Header[:0]}
}

// replaying is a handle that has no claim: an exchange has it as its slot when its reply is a recorded response.
type replaying Handle

// replay makes the reply for a duplicate, in r.
func (f *Filter) replay(a *Response, r *filters.Reply) *filters.Reply {
	if !a.Replayable {
		return filters.Refuse(filters.ResponseNotReplayable, filters.Problem{
			Detail: "The request was done. Its response was not kept: it was a stream, or longer than the route keeps.",
			Extra:  map[string]any{"original_status": a.Status},
		})
	}
	f.Metrics.Replays.Inc()
	r.Status, r.Body, r.Trailer = a.Status, a.Body, a.Trailer
	if n := len(a.Header) + 2; cap(r.Header) < n {
		r.Header = make(filters.Header, 0, n)
	}
	for _, field := range a.Header {
		if filters.EqualName(field.Name, "Date") {
			field.Name = "Idempotent-Original-Date"
		}
		r.Header = append(r.Header, field)
	}
	r.Header.Add("Idempotent-Replayed", "true")
	return r
}
