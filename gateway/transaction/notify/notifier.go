package notify

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// Receiver is where the ends of a route's transactions are told.
type Receiver struct {
	URL     string // http or https
	Secret  []byte
	Private bool // it may have an address that is not public
}

// Metrics counts notifications. Every member is set.
type Metrics struct {
	Delivered filters.Counter
	Failed    filters.Counter // attempts; another one follows
	GivenUp   filters.Counter
}

// Options is what a notifier works with. Its functions are called by many goroutines at once.
type Options struct {
	Store idempotency.Store
	Codec *idempotency.ResponseCodec
	// Receiver returns the receiver of a route's transactions in the configuration in force; false without one.
	Receiver func(route string) (Receiver, bool)
	// Routes returns the routes that have one.
	Routes func() []string
	// End returns the status resource of a transaction that has ended, false for one that has not; lost says that
	// it was never submitted or that nobody knows it any more.
	End func(ctx context.Context, route, gid string) (body []byte, ended, lost bool, err error)
	// Transport returns what attempts go through; nil: the network, guarded.
	Transport func(private bool) http.RoundTripper
	Metrics   Metrics
	Logger    *slog.Logger
}

// Notifier sends notifications. It belongs to the process and outlives a reload; [Notifier.Run] makes it work. It is
// safe for concurrent use.
type Notifier struct {
	o      Options
	public *http.Client
	inside *http.Client // to any address

	failures filters.LogThrottle
	running  sync.WaitGroup

	mu       sync.Mutex
	pending  map[string]*notice // by gid
	inFlight map[string]int     // by the receiver's URL
	soon     chan struct{}      // capacity 1: something is due
}

// notice is a notification that is not delivered.
type notice struct {
	gid, route string
	due        time.Time // of the next attempt
	sending    bool
	body       []byte // nil: the record has it, if the transaction has ended
}

const (
	pendingMax  = 10_000
	inFlightMax = 8 // attempts at once, of one receiver
	pauseMin    = 10 * time.Millisecond
	searchEvery = 30 * time.Second
	searchAgain = time.Second // when the store did not answer

	tryFor = 24 * time.Hour
	// life is how long the record of a notice lives from the end on: two hours more than it is tried for.
	life       = tryFor + time.Hour
	delayFirst = time.Second
	delayMax   = time.Hour
	leaseMax   = attemptMax + 5*time.Second
)

// New returns a notifier.
func New(o Options) *Notifier {
	if o.Codec == nil {
		o.Codec = new(idempotency.ResponseCodec)
	}
	transport := o.Transport
	if transport == nil {
		transport = newTransport
	}
	client := func(private bool) *http.Client {
		return &http.Client{Transport: transport(private), Timeout: attemptMax,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &Notifier{o: o, public: client(false), inside: client(true), pending: map[string]*notice{},
		inFlight: map[string]int{}, soon: make(chan struct{}, 1)}
}

func noticeRecord(gid string) string   { return idempotency.DigestOf("notice", gid) }
func deliveryRecord(gid string) string { return idempotency.DigestOf("delivery", gid) }

// The routes under which the records are kept, apart from those of clients and of branches.
func noticeRoute(route string) string   { return route + "/notice" }
func deliveryRoute(route string) string { return route + "/delivery" }

// Expect notes that the end of a transaction is to be told, before it is submitted. An error says that the store did
// not take it. It does nothing for a route without a receiver.
func (n *Notifier) Expect(ctx context.Context, route, principal, gid string) error {
	if _, ok := n.o.Receiver(route); !ok {
		return nil
	}
	_, _, err := n.o.Store.Claim(ctx, idempotency.ClaimRequest{
		ID: noticeRecord(gid), Token: newToken(), Route: noticeRoute(route), Principal: principal, ClientKey: gid,
		Lease: leaseMax, Cap: leaseMax, TTL: life, Retry: true,
	})
	return err
}

// Ended notes how a transaction of a route ended; body is its status resource. What is not written because the store
// is away is found by the next search.
func (n *Notifier) Ended(ctx context.Context, route, gid string, body []byte) {
	if _, ok := n.o.Receiver(route); !ok {
		return
	}
	if err := n.seal(ctx, gid, body); err != nil {
		n.o.Logger.Warn("transaction: its end is told later, since the store did not take it", "gid", gid, "error", err)
		return
	}
	n.add(route, gid, body)
}

// seal writes the body into the notice.
func (n *Notifier) seal(ctx context.Context, gid string, body []byte) error {
	id := noticeRecord(gid)
	rec, ok, err := n.o.Store.Get(ctx, id)
	if err != nil || !ok || rec.State == idempotency.Answered {
		return err
	}
	response := &idempotency.Response{Status: http.StatusOK, Body: body, Replayable: true}
	err = n.o.Store.Change(ctx, id, rec.Token, idempotency.Change{
		Op: idempotency.Finish, Response: n.o.Codec.Append(nil, id, response), Created: rec.Created,
	})
	if errors.Is(err, idempotency.ErrLost) { // another gateway did
		return nil
	}
	return err
}

// add has a notice sent. False: there is no room.
func (n *Notifier) add(route, gid string, body []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.pending[gid]; old != nil {
		return true
	}
	if len(n.pending) >= pendingMax {
		return false
	}
	n.pending[strings.Clone(gid)] = &notice{gid: strings.Clone(gid), route: strings.Clone(route), due: time.Now(),
		body: body}
	n.wake()
	return true
}

// wake has what is due looked at.
func (n *Notifier) wake() {
	select {
	case n.soon <- struct{}{}:
	default:
	}
}

// Pending returns how many notifications of ended transactions are not delivered, as far as this process knows.
func (n *Notifier) Pending() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.pending)
}

// Run sends what is due until ctx ends, and waits for the attempts under way.
func (n *Notifier) Run(ctx context.Context) {
	defer n.running.Wait()
	next := time.Now() // search
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if now := time.Now(); !now.Before(next) {
			if next = now.Add(searchEvery); !n.search(ctx) {
				next = now.Add(searchAgain)
			}
		}
		due := n.sendDue(ctx, time.Now(), next)
		timer.Reset(max(time.Until(due), pauseMin))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-n.soon:
		}
	}
}

// search finds what is to be told, whoever left it. False: the store did not answer.
func (n *Notifier) search(ctx context.Context) bool {
	for _, route := range n.o.Routes() {
		list, err := n.o.Store.List(ctx, idempotency.Query{Route: noticeRoute(route)}, pendingMax)
		if err != nil {
			if ctx.Err() == nil {
				n.o.Logger.Warn("transaction: the store was not searched for ends that are to be told", "error", err)
			}
			return false
		}
		for i := range list {
			if rec := &list[i]; rec.State == idempotency.Answered {
				n.add(route, rec.ClientKey, nil)
			} else if rec.State == idempotency.Unknown {
				n.lookForEnd(ctx, route, rec)
			}
		}
	}
	return true
}

// lookForEnd finds out whether the transaction of a notice without a body has ended.
func (n *Notifier) lookForEnd(ctx context.Context, route string, rec *idempotency.Record) {
	gid := rec.ClientKey
	body, ended, lost, err := n.o.End(ctx, route, gid)
	switch {
	case err != nil: // the next search
	case ended:
		n.Ended(ctx, route, gid, body)
	case lost:
		_, _ = n.o.Store.Resolve(ctx, rec.ID, nil, false) // or it expires
	case time.Until(rec.Expires) < life/2: // it runs for long
		_, _, _ = n.o.Store.Claim(ctx, idempotency.ClaimRequest{
			ID: rec.ID, Token: newToken(), Route: rec.Route, Principal: rec.Principal, ClientKey: gid,
			Lease: leaseMax, Cap: leaseMax, TTL: life, Retry: true,
		})
	}
}

func newToken() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:]) | 1
}
