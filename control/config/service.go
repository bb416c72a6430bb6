package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// Service is what stands behind the gateway. The paths of sockets are absolute after Load.
type Service struct {
	// Endpoints are read with ParsedEndpoints. There are none where EndpointsFrom is written.
	Endpoints []string `json:"endpoints" jsonschema:"minItems=1,uniqueItems=true" config:"url"`
	// EndpointsFrom is where they are found while the service runs; nil: they are written.
	EndpointsFrom     *EndpointsFrom `json:"endpointsFrom"`
	TLS               *ServiceTLS    `json:"tls"`
	Timeout           Duration       `json:"timeout"`
	StreamIdleTimeout Duration       `json:"streamIdleTimeout"`
	ConnectTimeout    Duration       `json:"connectTimeout"`
	KeepAlive         KeepAlive      `json:"keepAlive"`
	DNS               Duration       `json:"dns" config:"min=100ms,max=1h"`
	Retries           Retries        `json:"retries"`
	Health            *Health        `json:"health"`
	ServiceSections
}

func (Service) describe() descriptions {
	return descriptions{
		"Endpoints": "Each instance: http://host:port, https://host:port (HTTP/2 or HTTP/1.1, as the service " +
			"chooses), h2c://host:port (cleartext HTTP/2, for gRPC) or unix:///path/to.sock.",
		"TLS":     "How https:// endpoints are verified; without it by the system's roots.",
		"Timeout": "One attempt, until the head of the response; behind it the longest silence within its body.",
		"StreamIdleTimeout": "The longest silence in a stream: an event stream, application/x-ndjson, " +
			"a stream of gRPC, an upgraded connection.",
		"ConnectTimeout": "Making a connection.",
		"DNS": "How often the names of endpoints are looked up again, 100ms to 1h. Each address of a name is an " +
			"endpoint of its own.",
		"Retries": "When an attempt is repeated.",
	}
}

// Where says in one line where the endpoints are, or are found.
func (s *Service) Where() string {
	if s.EndpointsFrom != nil {
		return "endpoints from " + s.EndpointsFrom.String()
	}
	return strings.Join(s.Endpoints, ", ")
}

func (s *Service) setDefaults() {
	s.Timeout, s.ConnectTimeout = duration(2*time.Second), duration(500*time.Millisecond)
	s.StreamIdleTimeout, s.DNS = duration(5*time.Minute), duration(5*time.Second)
}

func (s *Service) derive(f *files) {
	for i, e := range s.Endpoints {
		s.Endpoints[i] = f.endpoint(e)
	}
}

func (s *Service) check(at site) {
	if len(at.exactlyOne("a service has", false, "endpoints", "endpointsFrom")) == 0 {
		at.fault(at.at("endpoints"), "is missing")
	}
	endpoints, sound := at.endpoints(s.Endpoints, at.at("endpoints"))
	if s.TLS == nil {
		return
	}
	encrypted := slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.TLS })
	if from := s.EndpointsFrom; from != nil {
		encrypted = from.File != "" || from.Scheme == "https" // a file may have any scheme
	}
	if !encrypted && sound && at.sound(at.at("endpoints")) {
		at.fault(at.at("tls"), "is for https:// endpoints, and this service has none")
	}
}

func (s *Service) warn(at site) { s.warnHedge(at) }

// endpoints checks a service's endpoints and returns the sound ones; false when one is not.
func (k *checker) endpoints(written []string, p path) (list []Endpoint, sound bool) {
	first, plain, sound := -1, Endpoint{}, true // the first without TLS, which alone knows its protocol beforehand
	for i, w := range written {
		e, err := parseEndpoint(w)
		if err != nil || !k.sound(p.item(i)) {
			k.fault(p.item(i), "%q %v", w, err)
			sound = false
			continue
		}
		switch {
		case e.TLS:
		case first < 0:
			first, plain = i, e
		case e.HTTP2 != plain.HTTP2:
			k.fault(p.item(i), "%q is %s, and endpoints[%d] is %s: a service speaks one of them",
				w, protocol(e), first, protocol(plain))
		}
		list = append(list, e)
	}
	return list, sound
}

func protocol(e Endpoint) string {
	if e.HTTP2 {
		return "HTTP/2 (h2c)"
	}
	return "HTTP/1.1"
}

// ServiceTLS is how https:// endpoints are verified, and how the gateway shows itself to them. Nil is the same as
// no member set: the system's roots, the endpoint's own name, no certificate. Paths are absolute after Load.
type ServiceTLS struct {
	CA         string `json:"ca" jsonschema:"minLength=1" config:"file"`
	ServerName string `json:"serverName" jsonschema:"minLength=1"`
	Cert       string `json:"cert" jsonschema:"minLength=1" config:"file"` // set together with Key
	Key        string `json:"key" jsonschema:"minLength=1" config:"file"`
}

func (ServiceTLS) describe() descriptions {
	return descriptions{
		"CA": "The file of the authorities that the service's certificate must come from, PEM; " +
			"without it the system's.",
		"ServerName": "The name that the certificate must have; without it the endpoint's host.",
		"Cert":       "The file of the gateway's own certificate chain, PEM; with key.",
		"Key":        "The file of its private key, PEM.",
	}
}

func (t *ServiceTLS) check(s site) {
	if t.ServerName != "" && !soundServerName(t.ServerName) {
		s.fault(s.at("serverName"), "%q is neither a host's name nor an address", t.ServerName)
	}
	for _, pair := range [][2]string{{"cert", "key"}, {"key", "cert"}} {
		if has, lacks := s.at(pair[0]), s.at(pair[1]); s.written(has) && !s.written(lacks) {
			s.fault(has, "needs %s beside it", pair[1])
		}
	}
}

func soundServerName(name string) bool {
	_, err := netip.ParseAddr(name)
	return soundHost(name, err == nil && strings.Contains(name, ":"))
}

// RetryCondition names when an attempt may be repeated.
type RetryCondition string

// The conditions of retries.on.
const (
	RetryConnectFailure     RetryCondition = "connect-failure"
	RetryResetBeforeRequest RetryCondition = "reset-before-request"
)

// JSONSchema lists the conditions.
func (RetryCondition) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Enum: []any{RetryConnectFailure, RetryResetBeforeRequest}}
}

// Retries is how often an attempt is repeated, and when. Budget is the share of requests that may be repeats.
type Retries struct {
	Attempts int              `json:"attempts" jsonschema:"minimum=0,maximum=10"`
	On       []RetryCondition `json:"on" jsonschema:"minItems=1,uniqueItems=true"`
	Budget   Percent          `json:"budget"`
}

func (Retries) describe() descriptions {
	return descriptions{
		"Attempts": "How often a request is repeated at most, 0 to 10.",
		"On":       "The conditions; both say that the service cannot have seen the request.",
		"Budget": "The share of the requests of each second that may go out again, as repeats and hedges; at " +
			"least 3. 0%: none.",
	}
}

func (r *Retries) setDefaults() {
	*r = Retries{Attempts: 0, On: []RetryCondition{RetryConnectFailure, RetryResetBeforeRequest}, Budget: 20}
}
