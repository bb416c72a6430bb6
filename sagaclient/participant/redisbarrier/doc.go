// Package redisbarrier makes the branch calls of global transactions take effect once on services
// that keep their state in Redis: stock that is counted there, a balance, a reservation.
//
// # In use
//
// The effect is a Lua script. The barrier runs it and writes its record in one script, so that both
// happen or neither does.
//
//	store := redisbarrier.Store{Eval: eval} // for go-redis: client.Eval(ctx, script, keys, args...).Result()
//	var reserve = redisbarrier.NewEffect(`
//		local left = tonumber(redis.call('GET', KEYS[1]) or '0')
//		if left < tonumber(ARGV[1]) then return refuse('sold-out') end
//		redis.call('DECRBY', KEYS[1], ARGV[1])
//		return ARGV[1]`)
//	var release = redisbarrier.NewEffect(`redis.call('INCRBY', KEYS[1], done)`)
//	...
//	branch, _, err := participant.FromRequest(r)
//	outcome, err := store.Call(r.Context(), branch, reserve, []string{"stock:SKU-1"}, 2)
//
// The package needs no client of its own, so that the service chooses one.
//
// # Rules
//
// They are those of the SQL barrier (PROTOCOL.md): a repeated call does nothing and returns what
// the first one did; a compensation without its action does nothing, and has the action refused
// when it comes after all; a refusal leaves no record.
//
// Redis does not undo what a script has written when it fails. So an effect checks first, refuses
// if it must, and then writes; a command that fails after others have written leaves those.
//
// # Records
//
// One hash for each branch, named prefix, gid, "-", branch id, that lives for [Store.KeepFor]. It
// must outlive the transaction: without it a late call takes effect. So Redis must not evict keys
// (maxmemory-policy noeviction). Memory: about 150 bytes a branch, and the values that effects
// return; what is longer than 4 KiB is cut off.
//
// In a Redis Cluster the records and the keys of an effect have one hash tag: [Store.Prefix].
//
// # Failure policy
//
// After an error of the connection nothing is known, and the call may be repeated: the record tells
// what was done. A Redis that loses what it acknowledged (appendfsync everysec or no, failover to a
// replica that is behind) loses effect and record together, never one of the two; the transaction
// may then have succeeded with that branch undone. WAIT, or appendfsync always, narrows that.
package redisbarrier
