package config

import (
	"net/netip"
	"time"
)

// Config is one whole configuration, complete: every default is filled in, every reference parsed, every secret in place.
// It is a value that nobody changes after [Load].
//
// The tags are read three ways: `json` names the key, `jsonschema` becomes the JSON Schema that the decoder itself checks
// documents with, and a field of type [Unsupported] is a setting of the contract whose behaviour does not exist yet: it is
// named in the schema and refused with "not supported yet" when it is written.
type Config struct {
	Version      int                     `json:"version"`
	Listen       Listen                  `json:"listen"`
	Admin        Admin                   `json:"admin"`
	Store        Store                   `json:"store"`
	Identity     []Identity              `json:"identity"`
	Services     map[string]*Service     `json:"services"`
	Limits       map[string]*Limit       `json:"limits"`
	Routes       []*Route                `json:"routes"`
	Coordinator  *Coordinator            `json:"coordinator"`
	Transactions map[string]*Transaction `json:"transactions"`
	Sales        *Unsupported            `json:"sales"`
}

// Listen is how clients reach the gateway.
type Listen struct {
	HTTP           string         `json:"http"` // host:port; HTTP/1.1 and cleartext HTTP/2
	HTTPS          *HTTPS         `json:"https"`
	MaxConnections int            `json:"maxConnections"`
	MaxHeader      Size           `json:"maxHeader"`
	MaxBody        Size           `json:"maxBody"`
	HeaderTimeout  Duration       `json:"headerTimeout"`
	IdleTimeout    Duration       `json:"idleTimeout"`
	TrustedProxies []netip.Prefix `json:"trustedProxies"`
	DrainDelay     Duration       `json:"drainDelay"`
}

// HTTPS is the TLS listener. Paths are absolute after Load.
type HTTPS struct {
	Address  string `json:"address"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	ClientCA string `json:"clientCA"`
}

// Admin is the operators' address.
type Admin struct {
	Address string `json:"address"`
}

// Store is where records and global limits live: exactly one member is set after Load.
type Store struct {
	Embedded   *EmbeddedStore `json:"embedded"`
	Redis      *RedisStore    `json:"redis"`
	Memory     *MemoryStore   `json:"memory"`
	Encryption *Unsupported   `json:"encryption"`
}

// EmbeddedStore is a durable store in a folder, for one gateway. Dir is absolute after Load.
type EmbeddedStore struct {
	Dir string `json:"dir"`
}

// RedisStore is a store that several gateways share.
type RedisStore struct {
	Addresses []string `json:"addresses"`
	Cluster   bool     `json:"cluster"`
	Username  string   `json:"username"`
	Password  string   `json:"password"`
	TLS       bool     `json:"tls"`
	Timeout   Duration `json:"timeout"` // one command, dial included
	KeyPrefix string   `json:"keyPrefix"`
}

// MemoryStore is lost at restart.
type MemoryStore struct{}

// Identity is one way to establish the principal: exactly one member is set.
type Identity struct {
	JWT      *JWT            `json:"jwt"`
	Header   *IdentityHeader `json:"header"`
	ClientIP *struct{}       `json:"clientIP"`
}

// JWT takes the principal from a claim of a bearer token. Keys is the absolute path of a JWK set after Load.
type JWT struct {
	Keys   string `json:"keys"`
	Issuer string `json:"issuer"`
	Claim  string `json:"claim"`
}

// IdentityHeader takes the principal from a header field, believed from trusted peers only.
type IdentityHeader struct {
	Name    string         `json:"name"`
	Trusted []netip.Prefix `json:"trusted"`
}

// Service is what stands behind the gateway.
type Service struct {
	Endpoints      []string     `json:"endpoints"` // http://host:port
	Timeout        Duration     `json:"timeout"`
	ConnectTimeout Duration     `json:"connectTimeout"`
	Retries        Retries      `json:"retries"`
	Breaker        *Breaker     `json:"breaker"`
	Health         *Unsupported `json:"health"`
	Overload       *Unsupported `json:"overload"`
}

// RetryCondition names when an attempt may be repeated.
type RetryCondition string

// The conditions of retries.on.
const (
	RetryConnectFailure     RetryCondition = "connect-failure"
	RetryResetBeforeRequest RetryCondition = "reset-before-request"
)

// Retries is how often an attempt is repeated, and when. Budget is the share of requests that may be repeats.
type Retries struct {
	Attempts int              `json:"attempts"`
	On       []RetryCondition `json:"on"`
	Budget   Percent          `json:"budget"`
}

// Breaker stops calls to a failing service.
type Breaker struct {
	Errors      Percent      `json:"errors"`
	Slow        *BreakerSlow `json:"slow"`
	Window      Duration     `json:"window"`
	MinRequests int          `json:"minRequests"`
	OpenFor     Duration     `json:"openFor"`
	Probes      int          `json:"probes"`
}

// BreakerSlow opens the breaker by the share of slow calls.
type BreakerSlow struct {
	Over  Duration `json:"over"`
	Share Percent  `json:"share"`
}

// Limit is a rate limit. Global is false for scope: local.
type Limit struct {
	Scope          string `json:"scope"` // global | local
	Per            []Ref  `json:"per"`
	Rate           Rate   `json:"rate"`
	Burst          int    `json:"burst"` // default: the number of the rate
	Mode           string `json:"mode"`  // enforce | shadow
	OnStoreFailure string `json:"onStoreFailure"`
}

// Route leads a request to a service, a transaction or a fixed answer: exactly one of Service, Transaction, Respond.
type Route struct {
	Name        string       `json:"name"`
	Match       Match        `json:"match"`
	Service     string       `json:"service"`
	Transaction string       `json:"transaction"`
	Respond     *Respond     `json:"respond"`
	Status      string       `json:"status"` // the path of the transaction's status resource, with {id}
	Priority    *Unsupported `json:"priority"`
	Limits      []string     `json:"limits"`
	Idempotency *Idempotency `json:"idempotency"`
}

// Match is what a route takes. No methods: all.
type Match struct {
	Methods []string `json:"methods"`
	Path    string   `json:"path"`
}

// Respond is a fixed answer.
type Respond struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// Idempotency makes the requests of a route safe to repeat.
type Idempotency struct {
	Required       bool          `json:"required"`
	Key            Key           `json:"key"`
	Scope          []Ref         `json:"scope"`
	Fingerprint    []Ref         `json:"fingerprint"`
	TTL            Duration      `json:"ttl"`
	Lease          Duration      `json:"lease"`
	MaxInFlight    Duration      `json:"maxInFlight"`
	Record         []StatusRange `json:"record"`
	NotExecuted    []StatusRange `json:"notExecuted"`
	WhileInFlight  WhileInFlight `json:"whileInFlight"`
	OnUnknown      string        `json:"onUnknown"` // hold | retry
	MaxBody        Size          `json:"maxBody"`
	MaxOpenKeys    *Unsupported  `json:"maxOpenKeys"`
	OnStoreFailure string        `json:"onStoreFailure"` // closed | open
}

// Key is where the idempotency key stands: exactly one of Header, Body, Derived.
type Key struct {
	Header  string   `json:"header"`
	Body    *Ref     `json:"body"` // a member of the JSON body
	Derived []Ref    `json:"derived"`
	Window  Duration `json:"window"` // derived: how long, from the end of the first request
}

// WhileInFlight is what a duplicate gets while the first request runs: it waits so long, 0 is an immediate refusal.
type WhileInFlight struct {
	Wait Duration `json:"wait"`
}

// Coordinator is the DTM cluster.
type Coordinator struct {
	DTM DTM `json:"dtm"`
}

// DTM is where the coordinator listens, and where it calls the branches through the gateway.
type DTM struct {
	Endpoints []string `json:"endpoints"` // http://host:port
	Branches  string   `json:"branches"`  // host:port
}

// Transaction is one request over several services.
type Transaction struct {
	Mode    string   `json:"mode"` // saga
	Wait    Duration `json:"wait"`
	Timeout Duration `json:"timeout"`
	Retry   Retry    `json:"retry"`
	Steps   []*Step  `json:"steps"`
}

// Retry is the first delay before a branch is called again; DTM doubles it.
type Retry struct {
	Every Duration `json:"every"`
}

// Step is one branch of a saga. After is nil for "the step before it" and empty for "at once".
type Step struct {
	Name   string        `json:"name"`
	After  []string      `json:"after"`
	Do     *Call         `json:"do"`
	Undo   *Call         `json:"undo"`
	FailOn []StatusRange `json:"failOn"`
}

// Call is one request to a service, made from templates. Body is any YAML value whose strings are templates; nil is no body.
type Call struct {
	Service string   `json:"service"`
	Method  string   `json:"method"`
	Path    Template `json:"path"`
	Body    any      `json:"body"`
}

// Unsupported is a setting that the contract has and this version does not.
type Unsupported struct{}

// Duration is a span of time as the configuration writes it: 250ms, 10s, 24h.
type Duration time.Duration

// Size is a number of bytes as the configuration writes it: 512B, 64KiB, 8MiB.
type Size int64

// Percent is a share as the configuration writes it, 50%, from 0 to 100.
type Percent float64

// Rate is a number of events in a period: 100/s, 20/m, 1000/h.
type Rate struct {
	Count  int
	Period time.Duration
}

// StatusRange is a range of HTTP status codes: 404, or 2xx for 200 to 299.
type StatusRange struct{ From, To int }

// Ref is one reference of the small language: principal, path.sku, body.cart.total. Root is the word before the first dot
// (client.ip is the root "client.ip"), Path the rest.
type Ref struct {
	Root string
	Path []string
}

// Template is text with references in braces.
type Template struct {
	Parts []TemplatePart
}

// TemplatePart is literal text or, with Ref set, a reference.
type TemplatePart struct {
	Text string
	Ref  *Ref
}
