package transaction

import (
	"context"
	"crypto/hmac"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/transaction/notify"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// Services is what the bridge asks the gateway for: calls to services, and what the configuration
// in force says of them. Its methods are called by many goroutines at once.
type Services interface {
	// CallBranch sends the exchange to a service, through the filters that guard the service. The
	// outcome is Completed with the service's response, or NotDispatched or NoResponse without one.
	CallBranch(ctx context.Context, service string, x *filters.Exchange, body []byte) (
		status int, response []byte, outcome filters.Outcome)
	// Reserve asks each of the services, before a transaction begins, whether a call that follows soon
	// would be let pass, and keeps a place for each of the calls: all of them, in the order of the
	// names, or none and a refusal. x is the client's request.
	Reserve(x *filters.Exchange, services []string) ([]*filters.Reservation, *filters.Reply)
	// LongestCall returns the longest that a call to the service takes.
	LongestCall(service string) time.Duration
	// Steps returns the names of the steps of the transaction that a route leads to; ok is false
	// when it leads to none.
	Steps(route string) (names []string, ok bool)
	// RetryMax returns the longest delay before a branch is called again, of the transaction that a route
	// leads to; 0: there is no limit.
	RetryMax(route string) time.Duration
	// Notify returns where the ends of a route's transactions are told; false: nowhere. NotifyRoutes returns the
	// routes that have such a receiver.
	Notify(route string) (notify.Receiver, bool)
	NotifyRoutes() []string
	// Open reports whether calls to the service are refused now because too many have failed.
	Open(service string) bool
}

// Metrics counts transactions. Every member is set.
type Metrics struct {
	Submitted      filters.Counter
	Succeeded      filters.Counter
	Failed         filters.Counter
	Unacknowledged filters.Counter // submits of which it is not known whether the coordinator has them
	BranchCalls    filters.Counter
	BranchErrors   filters.Counter // replies to the coordinator that make it try again
	Notify         notify.Metrics
}

// Options is what a bridge works with.
type Options struct {
	Client  *sagaclient.Client
	Breaker *CoordinatorBreaker // of Client; nil: without one
	Probe   *sagaclient.Client  // as Client, but without the breaker
	Store   idempotency.Store
	Codec   *idempotency.ResponseCodec // nil: without encryption
	BaseURL string                     // http://host:port of the branch address, as the coordinator reaches it
	// Advertised says that all gateways of the deployment have that address.
	Advertised bool
	Secret     []byte // signs branch URLs; nil: one that the store keeps
	Deployment string // its name in the gids; empty: it shares the coordinator with no other
	Services   Services
	// NotifyTransport returns what notifications go through; nil: the network, guarded.
	NotifyTransport func(private bool) http.RoundTripper
	Metrics         Metrics
	Logger          *slog.Logger
}

// Bridge is the gateway's side of the coordinator: it serves the branch calls and follows delegated
// requests to their end. It belongs to the process and outlives a reload. It is safe for concurrent
// use.
type Bridge struct {
	client   *sagaclient.Client
	store    idempotency.Store
	codec    *idempotency.ResponseCodec
	baseURL  string
	services Services
	metrics  Metrics
	logger   *slog.Logger

	advertised bool
	configured []byte // secret of the configuration; nil: the store's signs
	deployment string

	reservations reservations
	backoffs     backoffs
	ends         ends
	watches      watches
	stuck        stuckBranches
	alerts       alerts
	coordinator  coordinatorWatch
	keepForAsked atomic.Bool // whether the coordinator knows keepFor
	newOnly      newOnly
	managers     managers
	advances     advances
	running      running
	notifier     *notify.Notifier
	flushes      flushes

	stopping   chan struct{} // closed when Run has ended
	stop       sync.Once     // closes it
	background background    // branch calls and submits that go on without a client
	refusals   filters.LogThrottle
	forged     filters.LogThrottle

	storeDown, coordinatorDown filters.LogThrottle // every request of a client provokes one

	mu        sync.Mutex
	elsewhere string // the last branch address told of that is not this one
	secret    []byte // that the store keeps; nil until the store has given it
	followed  map[string]*followed
}

const (
	followTick           = 250 * time.Millisecond
	followPauseMax       = 5 * time.Second
	scanEvery            = 30 * time.Second
	scanAgain            = time.Second // when the store did not answer: at the start nothing is followed yet
	scanRecordsMax       = 10000
	neverSubmittedAfter  = 30 * time.Second // delegated and not known for so long: it was never submitted
	coordinatorLostAfter = 10 * time.Minute // unless the record is so old: then the coordinator lost it
	queryTimeout         = 2 * time.Second
	submitTimeout        = 15 * time.Second // the first pass over the steps takes some 5 s at most

	secretBytes       = 32
	recordedBytesMax  = 4 << 10 // of a branch's response that its record keeps, for the reason
	branchTTL         = 72 * time.Hour
	branchWaitMax     = 2500 * time.Millisecond // the coordinator waits 3 s for a branch
	branchLeaseMargin = 2 * time.Second
)

// New returns a bridge; [Bridge.Run] makes it follow what is delegated.
func New(o Options) *Bridge {
	b := &Bridge{
		client: o.Client, store: o.Store, codec: o.Codec, baseURL: o.BaseURL, services: o.Services,
		metrics: o.Metrics, logger: o.Logger, followed: map[string]*followed{},
		stopping: make(chan struct{}), advertised: o.Advertised, configured: o.Secret, deployment: o.Deployment,
	}
	b.coordinator.breaker, b.coordinator.probe = o.Breaker, o.Probe
	if b.codec == nil {
		b.codec = new(idempotency.ResponseCodec)
	}
	b.notifier = b.newNotifier(&o)
	return b
}

// signingKey returns the secret that signs branch URLs: the configuration's, which a store that is
// lost does not take with it, or else the store's.
func (b *Bridge) signingKey(ctx context.Context) ([]byte, error) {
	if b.configured != nil {
		return b.configured, nil
	}
	return b.storedSecret(ctx)
}

// signedBy reports whether the signature of a branch call is good. Calls of transactions that began
// before a secret was configured have the store's.
func (b *Bridge) signedBy(ctx context.Context, call branch, payload []byte, signature string) (bool, error) {
	if b.configured != nil && hmac.Equal([]byte(signature), []byte(call.sign(b.configured, payload))) {
		return true, nil
	}
	key, err := b.storedSecret(ctx)
	if err != nil {
		return false, err
	}
	return hmac.Equal([]byte(signature), []byte(call.sign(key, payload))), nil
}

// storedSecret returns the secret that the gateways of a store share. It is not fetched at the start
// because a store may come up later than the gateway.
func (b *Bridge) storedSecret(ctx context.Context) ([]byte, error) {
	b.mu.Lock()
	secret := b.secret
	b.mu.Unlock()
	if secret != nil {
		return secret, nil
	}
	secret, err := b.store.Secret(ctx, "branch-hmac", secretBytes)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secret = secret
	return secret, nil
}

// Run follows delegated requests until ctx ends: those of this gateway, and those that others left
// behind. When it has ended, calls of the first phase of a transaction are not repeated any more.
func (b *Bridge) Run(ctx context.Context) error {
	defer b.stop.Do(func() { close(b.stopping) })
	var notifier sync.WaitGroup
	notifier.Go(func() { b.notifier.Run(ctx) })
	defer notifier.Wait()
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	var lastScan time.Time
	again := scanAgain
	scan := func(now time.Time) {
		lastScan = now
		if !b.scan(ctx) {
			again = scanAgain
			return
		}
		// At the start, and when the store was away, the coordinator may have called in vain.
		if again == scanAgain && b.Pending() > 0 {
			b.advances.want()
		}
		again = scanEvery
	}
	b.refusesKnown(time.Now()) // asks
	scan(time.Now())
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if now.Sub(lastScan) >= again {
				scan(now)
				b.stuck.expire(now)
			}
			b.watchCoordinator(ctx, now)
			b.followDue(ctx, now)
			b.reservations.expire(now)
			b.advance(ctx, now)
		}
	}
}

// Wait returns nil when nothing runs in the background any more, or the error of ctx when that ends
// first.
func (b *Bridge) Wait(ctx context.Context) error {
	return b.background.Wait(ctx)
}

// Pending returns how many transactions are followed.
func (b *Bridge) Pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.followed)
}
