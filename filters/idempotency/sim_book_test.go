package idempotency_test

import (
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// simGrant is a claim that a gateway asked for.
type simGrant struct {
	name    string // the same in every run of the seed, which the token is not
	token   uint64
	id      string
	body    string
	gateway *simGateway

	// From here on as the store took it.
	order   int // of all grants of the store, from 1; 0: not taken
	life    int // of which record
	attempt int
	freed   int       // the attempt that it freed; 0: none
	at      time.Time // by the real clock

	repeated bool // by its gateway, under a higher attempt
	hindered bool // a step under it went wrong on its way
	effects  int  // the last attempt that was executed

	ends    int       // how often its owner ended it without a response
	outdone time.Time // since when its owner knows that it was lost; the record was answered by then
}

// excused: its lease may have lapsed, since its gateway, the store or what lies between them had
// trouble.
func (g *simGrant) excused(w *simWorld) bool {
	return g.hindered || !w.store.hindered.Before(g.at) || !g.gateway.stopped.Before(g.at) || g.gateway.deadLocked()
}

// simBook is what the simulator knows of a record, by its own reckoning of what was promised to
// whom. It is a value, so that a step can be taken back.
type simBook struct {
	live     bool
	life     int
	created  time.Time // of the record, as its claims were told
	body     string
	holder   *simGrant
	attempt  int
	running  bool // neither marked unknown nor answered; its lease may have lapsed
	leaseEnd time.Time
	capEnd   time.Time
	expires  time.Time
	freed    bool // its last attempt was, and what became of the ones before is unknown
	answered bool
	exec     int       // whose response
	since    time.Time // answered, by the real clock
}

type simState int

const (
	simFree simState = iota
	simRunning
	simUnknown
	simAnswered
)

func (s simState) String() string {
	return [...]string{"free", "in flight", "unknown", "answered"}[s]
}

func (b *simBook) state(now time.Time) simState {
	switch {
	case !b.live || !now.Before(b.expires):
		return simFree
	case b.answered:
		return simAnswered
	case b.running && now.Before(b.leaseEnd):
		return simRunning
	}
	return simUnknown
}

// answeredFor: the record of that claim has a response.
func (b *simBook) answeredFor(g *simGrant) bool {
	return b != nil && b.live && b.answered && b.life == g.life
}

// compare holds a record as the core reads it against the book: nothing acknowledged is lost,
// nothing stays in flight beyond its lease, and an outcome is unknown only when it is.
func (b *simBook) compare(w *simWorld, s *simSubject, rec idempotency.Record, there bool, now time.Time) {
	want, is := b.state(now), simFree
	if there {
		switch rec.State {
		case idempotency.InFlight:
			is = simRunning
		case idempotency.Unknown:
			is = simUnknown
		case idempotency.Answered:
			is = simAnswered
		}
	}
	if is != want {
		w.failLocked("%s reads as %s and is %s", s, is, want)
		return
	}
	if is == simFree {
		return
	}
	if is == simUnknown && b.running && now.Before(b.capEnd) && !b.holder.excused(w) {
		w.failLocked("%s: the lease of %s lapsed, and nothing hindered its renewal or its end", s, b.holder.name)
	}
	if body := s.bodies[rec.Fingerprint]; body != b.body {
		w.failLocked("%s is the record of request %s, and was claimed by %s", s, body, b.body)
	}
	if !rec.Expires.Equal(b.expires) {
		w.failLocked("%s lives until %v, it was promised to live until %v", s, rec.Expires, b.expires)
	}
	if is == simRunning && rec.LeaseUntil.After(b.capEnd) {
		w.failLocked("%s has a lease that ends %v after its cap", s, rec.LeaseUntil.Sub(b.capEnd))
	}
	if is == simAnswered {
		if exec := w.executionInLocked(s.id, rec.Response); exec != b.exec {
			w.failLocked("%s has the response of execution %d, recorded was that of %d", s, exec, b.exec)
		}
	}
}

// grant judges a claim that the store has granted.
func (b *simBook) grant(s *simStore, g *simGrant, q idempotency.ClaimRequest, rec *idempotency.Record, now time.Time) {
	w, subject := s.w, s.w.subjects[g.id]
	switch b.state(now) {
	case simFree:
		s.lives++
		*b = simBook{life: s.lives, created: rec.Created}
	case simAnswered:
		w.failLocked("%s was granted to %s though it is answered", subject, g.name)
	case simRunning:
		w.failLocked("%s was granted to %s while the lease of %s runs", subject, g.name, b.holder.name)
	case simUnknown:
		switch {
		case g.body != b.body:
			w.failLocked("%s of unknown outcome was granted to another request (%s)", subject, g.name)
		case w.plan.mode == "hold":
			w.failLocked("%s was granted to %s though its outcome is unknown and held", subject, g.name)
		case w.plan.mode == "probe" && b.holder.order > subject.fence:
			w.failLocked("%s was granted to %s and the service never said that %s was not done", subject, g.name,
				b.holder.name)
		}
		if b.running {
			w.seen["take-overs after a lapse"]++
		}
		w.seen["retries"]++
	}
	s.order++
	b.live, b.body, b.holder, b.running, b.answered, b.freed = true, g.body, g, true, false, false
	b.attempt++
	b.leaseEnd, b.capEnd, b.expires = now.Add(q.Lease), now.Add(q.Cap), now.Add(q.Cap+q.TTL)
	g.order, g.life, g.attempt, g.at = s.order, b.life, rec.Attempt, time.Now()
	if rec.Attempt != b.attempt {
		w.failLocked("%s was granted to %s as attempt %d, it is attempt %d", subject, g.name, rec.Attempt, b.attempt)
	}
}

// change judges a step that a gateway took, or was refused.
func (b *simBook) change(s *simStore, g *simGrant, ch idempotency.Change, exec int, rec *idempotency.Record,
	remove bool, err error, now time.Time) {
	w, subject, op := s.w, s.w.subjects[g.id], simOps[ch.Op]
	holds := b.live && b.holder == g
	// nobody holds it: the response is the true one
	late := b.live && !holds && g.life == b.life && b.state(now) == simUnknown
	may := holds && !b.answered
	switch ch.Op {
	case idempotency.Renew:
		may = may && b.running && now.Before(b.capEnd)
	case idempotency.Finish:
		may = holds || late
	}
	switch {
	case err == nil && !may:
		w.failLocked("%s: %s by %s, which does not hold it", subject, op, g.name)
		return
	case err != nil && may:
		w.failLocked("%s: %s by %s, which holds it, was refused", subject, op, g.name)
		return
	case err != nil:
		if ch.Op != idempotency.Renew && b.live && !holds {
			w.seen["late owners fenced"]++
		}
		if ch.Op == idempotency.Renew && holds && b.running {
			w.seen["renewals past the cap"]++
		}
		return
	}
	switch ch.Op {
	case idempotency.Renew:
		w.seen["renewals"]++
		b.attempt = max(b.attempt, ch.Attempt)
		b.leaseEnd = now.Add(ch.Lease)
		if b.leaseEnd.After(b.capEnd) {
			b.leaseEnd = b.capEnd
		}
	case idempotency.Finish:
		if b.answered {
			return
		}
		if b.running && !now.Before(b.leaseEnd) {
			w.seen["late responses of a lapsed lease"]++
		}
		switch {
		case late && b.freed:
			w.seen["late owners settle after a take-over that was not executed"]++
		case late && g.order == 0:
			w.seen["probes settle"]++
		case late:
			w.seen["late owners settle after a take-over of unknown outcome"]++
		}
		w.seen["responses"]++
		b.holder, b.answered, b.exec, b.since = g, true, exec, time.Now()
		b.running, b.expires = false, now.Add(w.plan.settings.TTL)
	case idempotency.MarkUnknown:
		b.markUnknown(now, w.plan.settings.TTL)
	case idempotency.Free:
		b.free(s, g, remove, now)
	}
}

func (b *simBook) markUnknown(now time.Time, ttl time.Duration) {
	b.running, b.expires = false, now.Add(ttl)
}

func (b *simBook) free(s *simStore, g *simGrant, remove bool, now time.Time) {
	if !b.running {
		return
	}
	w, subject := s.w, s.w.subjects[g.id]
	g.freed = b.attempt
	if g.effects >= b.attempt { // of a repetition only itself is freed
		w.failLocked("%s was freed by %s, which has been executed", subject, g.name)
	}
	if b.attempt == 1 {
		w.seen["frees"]++
		*b = simBook{}
		return
	}
	w.seen["frees of a later attempt"]++
	if remove {
		w.failLocked("%s was freed by %s, although the outcome of the attempts before is unknown", subject, g.name)
	}
	b.attempt--
	b.freed = true
	b.markUnknown(now, w.plan.settings.TTL)
}
