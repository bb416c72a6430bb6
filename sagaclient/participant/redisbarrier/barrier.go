package redisbarrier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// Eval runs a Lua script on the server and returns its reply: strings or byte slices in a slice of
// any, as go-redis and redigo have it. It must not run a script again after an error that does not
// say that the first run failed; that it may do so all the same is safe, since the record is there.
type Eval func(ctx context.Context, script string, keys []string, args ...any) (any, error)

// DefaultKeepFor is how long records live without [Store.KeepFor]: as long as DTM on Redis keeps a
// transaction that does not end.
const DefaultKeepFor = 7 * 24 * time.Hour

// valueBytesMax is how much is kept of the value that an effect returns.
const valueBytesMax = 4096

// Store is where a service keeps its records. It is a value and safe for concurrent use.
type Store struct {
	Eval Eval
	// Prefix begins the names of records; empty: "barrier:". The calls of one branch must all have
	// the same. In a Redis Cluster it has the hash tag of the effect's keys: "barrier:{stock}:".
	Prefix  string
	KeepFor time.Duration // 0: [DefaultKeepFor]; at least a second
}

// Effect is a script with the barrier around it. Make it once.
type Effect struct{ script string }

// NewEffect makes an effect of the body of a Lua function. It has
//
//	KEYS, ARGV    those of Call
//	done          in a compensation: what the action returned, as a string
//	refuse(why)   return refuse('sold-out') says that the service refuses; it must have written nothing
//
// What it returns, a string or a number, is the value of the outcome, now and for repeated calls.
// What is wrong with the Lua shows at the first call.
func NewEffect(lua string) *Effect {
	return &Effect{script: before + lua + after}
}

// The effect is a function of its own, so that its variables and returns are its own too.
const (
	before = `local refused = {}
local function refuse(why) refused.why = tostring(why) return refused end
local function effect(KEYS, ARGV, done)
`
	after = `
end
local record, op, undoes = KEYS[1], ARGV[1], ARGV[2]
local reason = redis.call('HGET', record, op)
if reason == op then return {'repeated', redis.call('HGET', record, op .. ':value') or ''} end
if reason then return {'too-late', ''} end
local done
if undoes ~= '' then
  if redis.call('HEXISTS', record, undoes) == 0 then
    redis.call('HSET', record, undoes, op, op, op)
    redis.call('PEXPIRE', record, ARGV[3])
    return {'empty', ''}
  end
  done = redis.call('HGET', record, undoes .. ':value') or ''
end
local keys, args = {}, {}
for i = 2, #KEYS do keys[i - 1] = KEYS[i] end
for i = 5, #ARGV do args[i - 4] = ARGV[i] end
local value = effect(keys, args, done)
if value == refused then return {'refused', refused.why} end
if value == nil or value == false then value = '' end
value = string.sub(tostring(value), 1, tonumber(ARGV[4]))
redis.call('HSET', record, op, op, op .. ':value', value)
redis.call('PEXPIRE', record, ARGV[3])
return {'executed', value}
`
)

// Outcome is what became of a call that did not fail.
type Outcome struct {
	Result participant.Result
	// Value is what the effect returned, now or, with Repeated, the first time.
	Value string
}

// Refused says that the effect refused, and did nothing; no record is left, so that a later call may
// be done. Respond with 409, or whatever the route's failOn names.
type Refused struct{ Reason string }

// Error has the reason.
func (r *Refused) Error() string { return "redisbarrier: refused: " + r.Reason }

// Call runs the effect unless the branch's records say otherwise, and writes the record with it.
// The error is [*Refused] when the effect refused. After any other the outcome is not known; call
// again.
func (s Store) Call(ctx context.Context, b participant.Barrier, e *Effect, keys []string, args ...any) (
	Outcome, error,
) {
	if err := s.check(b); err != nil {
		return Outcome{}, err
	}
	names := append([]string{s.record(b)}, keys...)
	values := append([]any{b.Op, b.Undoes(), s.lifetime(), strconv.Itoa(valueBytesMax)}, args...)
	reply, err := s.Eval(ctx, e.script, names, values...)
	if err != nil {
		return Outcome{}, fmt.Errorf("redisbarrier: gid %s, branch %s, %s: %w", b.GID, b.BranchID, b.Op, err)
	}
	return outcomeOf(reply)
}

// Query tells whether the branch was done. When it was not, it never will be: a call that comes later
// is [participant.TooLate]. See [participant.Barrier.Query].
func (s Store) Query(ctx context.Context, b participant.Barrier) (done bool, err error) {
	if err := s.check(b); err != nil {
		return false, err
	}
	reply, err := s.Eval(ctx, query, []string{s.record(b)}, b.Op, s.lifetime())
	if err != nil {
		return false, fmt.Errorf("redisbarrier: query of gid %s: %w", b.GID, err)
	}
	switch fmt.Sprintf("%s", reply) {
	case "done":
		return true, nil
	case "not-done":
		return false, nil
	}
	return false, fmt.Errorf("redisbarrier: reply %v is not that of the script", reply)
}

const query = `local reason = redis.call('HGET', KEYS[1], ARGV[1])
if reason == ARGV[1] then return 'done' end
if not reason then
  redis.call('HSET', KEYS[1], ARGV[1], 'rollback')
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 'not-done'
`

// record is the name of the branch's record.
func (s Store) record(b participant.Barrier) string {
	return cmp.Or(s.Prefix, "barrier:") + b.GID + "-" + b.BranchID
}

// lifetime is that of a record, in milliseconds.
func (s Store) lifetime() string {
	return strconv.FormatInt(cmp.Or(s.KeepFor, DefaultKeepFor).Milliseconds(), 10)
}

func (s Store) check(b participant.Barrier) error {
	switch {
	case b.GID == "" || b.BranchID == "" || b.Op == "":
		return errors.New("redisbarrier: a branch call has a gid, a branch id and an op")
	case strings.Contains(b.Op, ":"): // which separates an op from its value
		return fmt.Errorf("redisbarrier: op %q has a colon", b.Op)
	case strings.ContainsAny(b.GID+b.BranchID, "{}"):
		return fmt.Errorf("redisbarrier: gid %q or branch id %q has a brace, which could move the record to "+
			"another node", b.GID, b.BranchID)
	case s.KeepFor != 0 && s.KeepFor < time.Second:
		return fmt.Errorf("redisbarrier: records live for %v, want at least 1s", s.KeepFor)
	}
	return nil
}

func outcomeOf(reply any) (Outcome, error) {
	list, ok := reply.([]any)
	if !ok || len(list) != 2 {
		return Outcome{}, fmt.Errorf("redisbarrier: reply %v of type %T is not that of the script", reply, reply)
	}
	var text [2]string
	for i, element := range list {
		switch e := element.(type) {
		case string:
			text[i] = e
		case []byte:
			text[i] = string(e)
		default:
			return Outcome{}, fmt.Errorf("redisbarrier: reply has %v of type %T in it", element, element)
		}
	}
	o := Outcome{Value: text[1]}
	switch text[0] {
	case "refused":
		return Outcome{}, &Refused{Reason: text[1]}
	case "executed":
		o.Result = participant.Executed
	case "repeated":
		o.Result = participant.Repeated
	case "empty":
		o.Result = participant.Empty
	case "too-late":
		o.Result = participant.TooLate
	default:
		return Outcome{}, fmt.Errorf("redisbarrier: reply %q is not that of the script", text[0])
	}
	return o, nil
}
