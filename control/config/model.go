package config

import (
	"net/netip"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Config is one whole configuration, complete: every default is filled in, every reference parsed, every secret in place.
// It is a value that nobody changes after [Load].
//
// The tags are read three ways: `json` names the key, `jsonschema` becomes the JSON Schema that the decoder itself checks
// documents with, and `config` tells the decoder the least and the greatest value ("min=1KiB,max=1MiB"; a duration without a
// least one is at least 1ms), that a path is a file that must be there ("file"), or that a reference is relative to the body
// ("member"). A field of type [Unsupported] is a setting of the contract whose behaviour does not exist yet: it is named in the
// schema and refused with "not supported yet" when it is written.
type Config struct {
	Version      int                     `json:"version" jsonschema:"required,enum=1"`
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

	origin origin // where all this came from
}

// Listen is how clients reach the gateway.
type Listen struct {
	HTTP           string         `json:"http"` // host:port; HTTP/1.1 and cleartext HTTP/2
	HTTPS          *HTTPS         `json:"https"`
	MaxConnections int            `json:"maxConnections" jsonschema:"minimum=1,maximum=1000000"`
	MaxHeader      Size           `json:"maxHeader" config:"min=1KiB,max=1MiB"`
	MaxBody        Size           `json:"maxBody"`
	HeaderTimeout  Duration       `json:"headerTimeout"`
	IdleTimeout    Duration       `json:"idleTimeout"`
	TrustedProxies []netip.Prefix `json:"trustedProxies"`
	DrainDelay     Duration       `json:"drainDelay" config:"min=0s"`
	ProxyProtocol  []netip.Prefix `json:"proxyProtocol"` // peers whose connections begin with a PROXY protocol v2 header
}

// HTTPS is the TLS listener. Paths are absolute after Load.
type HTTPS struct {
	Address  string `json:"address" jsonschema:"required"`
	Cert     string `json:"cert" jsonschema:"required" config:"file"`
	Key      string `json:"key" jsonschema:"required" config:"file"`
	ClientCA string `json:"clientCA" config:"file"`
}

// Admin is the operators' address.
type Admin struct {
	Address string `json:"address"`
	PProf   bool   `json:"pprof"` // serve /debug/pprof/ there
}

// Store is where records and global limits live: exactly one member is set after Load.
type Store struct {
	Embedded   *EmbeddedStore `json:"embedded"`
	Redis      *RedisStore    `json:"redis"`
	Memory     *MemoryStore   `json:"memory"`
	Encryption *Encryption    `json:"encryption"` // beside any of them
}

// Encryption seals the answers that a store keeps. The first key seals, all open.
type Encryption struct {
	Keys []string `json:"keys" jsonschema:"required,minItems=1,uniqueItems=true"` // see ParsedKeys
}

// EmbeddedStore is a durable store in a folder, for one gateway. Dir is absolute after Load.
type EmbeddedStore struct {
	Dir        string   `json:"dir" jsonschema:"minLength=1"`
	Timeout    Duration `json:"timeout"`                                                 // one step, the disk's fsync included
	MaxRecords int      `json:"maxRecords" jsonschema:"minimum=1000,maximum=1000000000"` // live ones; memory follows their number
}

// RedisStore is a store that several gateways share.
type RedisStore struct {
	Addresses []string       `json:"addresses" jsonschema:"minItems=1,uniqueItems=true"`
	Cluster   bool           `json:"cluster"`
	Username  string         `json:"username"`
	Password  string         `json:"password"`
	TLS       bool           `json:"tls"`
	Timeout   Duration       `json:"timeout"` // one command, dial included
	KeyPrefix string         `json:"keyPrefix"`
	Sentinel  *RedisSentinel `json:"sentinel"` // set: Addresses are those of the sentinels
}

// RedisSentinel finds the master of a Redis with replicas.
type RedisSentinel struct {
	Master   string `json:"master" jsonschema:"required,minLength=1"` // the name that the sentinels know it by
	Username string `json:"username"`                                 // at the sentinels
	Password string `json:"password"`
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
	Keys   string `json:"keys" jsonschema:"required,minLength=1" config:"file"`
	Issuer string `json:"issuer"`
	Claim  string `json:"claim" jsonschema:"minLength=1"`
}

// IdentityHeader takes the principal from a header field, believed from trusted peers only.
type IdentityHeader struct {
	Name    string         `json:"name" jsonschema:"required,pattern=^[!#$%&'*+.^_|~0-9A-Za-z-]+$"`
	Trusted []netip.Prefix `json:"trusted"`
}

// Service is what stands behind the gateway. The paths of sockets are absolute after Load.
type Service struct {
	Endpoints      []string     `json:"endpoints" jsonschema:"required,minItems=1,uniqueItems=true"` // see ParsedEndpoints
	TLS            *ServiceTLS  `json:"tls"`
	Timeout        Duration     `json:"timeout"`
	ConnectTimeout Duration     `json:"connectTimeout"`
	Retries        Retries      `json:"retries"`
	Breaker        *Breaker     `json:"breaker"`
	Health         *Health      `json:"health"`
	Overload       *Unsupported `json:"overload"`
}

// ServiceTLS is how https:// endpoints are verified, and how the gateway shows itself to them. Nil is the same as no member set:
// the system's roots, the endpoint's own name, no certificate. Paths are absolute after Load.
type ServiceTLS struct {
	CA         string `json:"ca" jsonschema:"minLength=1" config:"file"`
	ServerName string `json:"serverName" jsonschema:"minLength=1"`
	Cert       string `json:"cert" jsonschema:"minLength=1" config:"file"` // set together with Key
	Key        string `json:"key" jsonschema:"minLength=1" config:"file"`
}

// Health is how each endpoint is asked whether it is well.
type Health struct {
	Path    string   `json:"path" jsonschema:"required"` // canonical, with or without a query
	Every   Duration `json:"every" config:"min=100ms"`
	Timeout Duration `json:"timeout"` // at most Every; default: 1s, or Every where that is less
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
	Attempts int              `json:"attempts" jsonschema:"minimum=0,maximum=10"`
	On       []RetryCondition `json:"on" jsonschema:"minItems=1,uniqueItems=true"`
	Budget   Percent          `json:"budget"`
}

// Breaker stops calls to a failing service.
type Breaker struct {
	Errors      Percent      `json:"errors"`
	Slow        *BreakerSlow `json:"slow"`
	Window      Duration     `json:"window"`
	MinRequests int          `json:"minRequests" jsonschema:"minimum=1,maximum=1000000"`
	OpenFor     Duration     `json:"openFor"`
	Probes      int          `json:"probes" jsonschema:"minimum=1,maximum=1000"`
}

// BreakerSlow opens the breaker by the share of slow calls.
type BreakerSlow struct {
	Over  Duration `json:"over"`
	Share Percent  `json:"share"`
}

// Limit is a rate limit. Global is false for scope: local.
type Limit struct {
	Scope          string    `json:"scope" jsonschema:"enum=global,enum=local"` // global | local
	Per            []ref.Ref `json:"per" jsonschema:"uniqueItems=true"`
	Rate           Rate      `json:"rate" jsonschema:"required"`
	Burst          int       `json:"burst" jsonschema:"minimum=1,maximum=1000000000"` // default: the number of the rate
	Mode           string    `json:"mode" jsonschema:"enum=enforce,enum=shadow"`      // enforce | shadow
	OnStoreFailure string    `json:"onStoreFailure" jsonschema:"enum=local,enum=open,enum=closed"`
}

// Route leads a request to a service, a transaction or a fixed answer: exactly one of Service, Transaction, Respond.
type Route struct {
	Name        string       `json:"name" jsonschema:"required,pattern=^[a-z0-9._-]+$"`
	Match       Match        `json:"match" jsonschema:"required"`
	Service     string       `json:"service"`
	Transaction string       `json:"transaction"`
	Respond     *Respond     `json:"respond"`
	Status      string       `json:"status"` // the path of the transaction's status resource, with {id}
	Priority    *Unsupported `json:"priority"`
	Limits      []string     `json:"limits" jsonschema:"uniqueItems=true"`
	Idempotency *Idempotency `json:"idempotency"`
}

// Match is what a route takes. No methods: all.
type Match struct {
	Methods []string `json:"methods" jsonschema:"minItems=1,uniqueItems=true,pattern=^[A-Z][A-Z-]*$"`
	Path    string   `json:"path" jsonschema:"required"`
}

// Respond is a fixed answer.
type Respond struct {
	Status  int               `json:"status" jsonschema:"required,minimum=200,maximum=599"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// Idempotency makes the requests of a route safe to repeat.
type Idempotency struct {
	Required       bool          `json:"required"`
	Key            Key           `json:"key"`
	Scope          []ref.Ref     `json:"scope" jsonschema:"uniqueItems=true"`
	Fingerprint    []ref.Ref     `json:"fingerprint" jsonschema:"minItems=1,uniqueItems=true"`
	TTL            Duration      `json:"ttl" config:"min=1s"`
	Lease          Duration      `json:"lease" config:"min=1s"`
	MaxInFlight    Duration      `json:"maxInFlight"`
	Record         []StatusRange `json:"record" jsonschema:"minItems=1"`
	NotExecuted    []StatusRange `json:"notExecuted"`
	WhileInFlight  WhileInFlight `json:"whileInFlight"`
	OnUnknown      string        `json:"onUnknown" jsonschema:"enum=hold,enum=retry,enum=probe"` // hold | retry | probe
	Probe          *Probe        `json:"probe"`                                                  // set with OnUnknown probe
	MaxBody        Size          `json:"maxBody"`
	OmitHeaders    []string      `json:"omitHeaders" jsonschema:"uniqueItems=true,pattern=^[!#$%&'*+.^_|~0-9A-Za-z-]+$"`
	MaxOpenKeys    int           `json:"maxOpenKeys" jsonschema:"minimum=0,maximum=1000000"` // 0: any number
	OnStoreFailure string        `json:"onStoreFailure" jsonschema:"enum=closed,enum=open"`  // closed | open
}

// Probe asks the route's service what became of a request.
type Probe struct {
	Method  string        `json:"method" jsonschema:"enum=GET,enum=HEAD,enum=POST"`
	Path    ref.Template  `json:"path" jsonschema:"required"` // may refer to key, the injected Idempotency-Key
	Done    []StatusRange `json:"done" jsonschema:"minItems=1"`
	NotDone []StatusRange `json:"notDone" jsonschema:"minItems=1"`
}

// Key is where the idempotency key stands: exactly one of Header, Body, Derived.
type Key struct {
	Header  string    `json:"header" jsonschema:"pattern=^[!#$%&'*+.^_|~0-9A-Za-z-]+$"`
	Body    *ref.Ref  `json:"body" config:"member"` // a member of the JSON body
	Derived []ref.Ref `json:"derived" jsonschema:"minItems=1,uniqueItems=true"`
	Window  Duration  `json:"window"` // derived: how long, from the end of the first request
}

// WhileInFlight is what a duplicate gets while the first request runs: it waits so long, 0 is an immediate refusal.
type WhileInFlight struct {
	Wait Duration `json:"wait"`
}

// Coordinator is the DTM cluster.
type Coordinator struct {
	DTM DTM `json:"dtm" jsonschema:"required"`
}

// DTM is where the coordinator listens, and where it calls the branches through the gateway.
type DTM struct {
	Endpoints []string `json:"endpoints" jsonschema:"minItems=1,uniqueItems=true"` // http://host:port
	Branches  string   `json:"branches"`                                           // host:port
}

// Transaction is one request over several services.
type Transaction struct {
	Mode    string       `json:"mode" jsonschema:"enum=saga"` // saga
	Wait    Duration     `json:"wait"`
	Timeout Duration     `json:"timeout"`
	Retry   Retry        `json:"retry"`
	Primary *Unsupported `json:"primary"`
	Steps   []*Step      `json:"steps" jsonschema:"required,minItems=1,maxItems=99"`
}

// Retry is the first delay before a branch is called again; DTM doubles it.
type Retry struct {
	Every Duration `json:"every"`
}

// Step is one branch of a saga. After is nil for "the step before it" and empty for "at once".
type Step struct {
	Name    string        `json:"name" jsonschema:"required,pattern=^[a-z0-9-]{1\\,40}$"`
	After   []string      `json:"after" jsonschema:"uniqueItems=true"`
	Do      *Call         `json:"do" jsonschema:"required"`
	Undo    *Call         `json:"undo"`
	Try     *Unsupported  `json:"try"`
	Confirm *Unsupported  `json:"confirm"`
	Cancel  *Unsupported  `json:"cancel"`
	FailOn  []StatusRange `json:"failOn"`
}

// Call is one request to a service, made from templates. Body is any YAML value whose strings are templates; nil is no body.
type Call struct {
	Service string       `json:"service" jsonschema:"required,minLength=1"`
	Method  string       `json:"method" jsonschema:"pattern=^[A-Z][A-Z-]*$"`
	Path    ref.Template `json:"path" jsonschema:"required"`
	Body    any          `json:"body"`
}

// Unsupported is a setting that the contract has and this version does not.
type Unsupported struct{}
