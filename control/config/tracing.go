package config

import (
	"net/url"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// The protocols of a collector of traces.
const (
	TracingGRPC = "grpc"
	TracingHTTP = "http"
)

// Tracing is where spans go, and of which requests there are any.
type Tracing struct {
	// Endpoint is complete after Load: its path is where spans are posted to, for TracingHTTP.
	Endpoint string            `json:"endpoint" config:"url,example=http://127.0.0.1:4317"`
	Protocol string            `json:"protocol" jsonschema:"enum=grpc,enum=http"`
	Sample   Percent           `json:"sample"`
	Headers  map[string]string `json:"headers" config:"secret"`
}

func (Tracing) describe() descriptions {
	return descriptions{
		"": "Spans of requests, sent to a collector by OTLP. Off unless it is there; {} has the defaults. No request " +
			"waits for the collector.",
		"Endpoint": "URL of the collector: http://127.0.0.1:4317 for grpc, http://127.0.0.1:4318 for http, which has " +
			"the path /v1/traces unless another one is written.",
		"Protocol": "grpc or http, with protobuf.",
		"Sample": "The share of requests that are traced, by chance. The flag of a traceparent counts in its place " +
			"where it comes from one of listen.trustedProxies.",
		"Headers": "Fields that each export carries, such as the collector's token; set it with ${env:NAME}.",
	}
}

const (
	defaultCollectorGRPC = "http://127.0.0.1:4317"
	defaultCollectorHTTP = "http://127.0.0.1:4318"
	tracesPath           = "/v1/traces"
)

func (t *Tracing) setDefaults() { *t = Tracing{Protocol: TracingGRPC, Sample: 10} }

func (t *Tracing) derive(*files) {
	if t.Endpoint == "" {
		t.Endpoint = defaultCollectorGRPC
		if t.Protocol == TracingHTTP {
			t.Endpoint = defaultCollectorHTTP
		}
	}
	u, err := url.Parse(t.Endpoint)
	if err != nil || u.Path != "" && u.Path != "/" { // check says what is wrong
		return
	}
	if u.Path = ""; t.Protocol == TracingHTTP {
		u.Path = tracesPath
	}
	t.Endpoint = u.String()
}

func (t *Tracing) check(s site) {
	at := s.at("endpoint")
	u, err := url.Parse(t.Endpoint)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "" ||
		u.Port() != "" && (!soundPort(u.Port()) || u.Port() == "0"):
		s.fault(at, "%q is not a URL such as %s", withoutUser(t.Endpoint), defaultCollectorGRPC)
	case u.User != nil:
		s.fault(at, "has a user in it: what the collector wants to know belongs in headers")
	case u.RawQuery != "" || strings.Contains(t.Endpoint, "#"):
		s.fault(at, "has a query or a fragment, which is not sent")
	case u.Path != "" && t.Protocol != TracingHTTP:
		s.fault(at, "has a path, and OTLP over grpc has none: for OTLP over HTTP write protocol: http")
	}
	t.checkHeaders(s)
}

// ownOfExports are the fields that an export sets itself, in lower case.
var ownOfExports = []string{"connection", "content-encoding", "content-length", "content-type", "host", "te", "trailer",
	"transfer-encoding", "upgrade", "user-agent"}

func (t *Tracing) checkHeaders(s site) {
	seen := map[string]string{}
	for _, name := range sortedKeys(t.Headers) {
		at, folded := s.at("headers", name), strings.ToLower(name)
		notSent := func(c rune) bool { return c < 0x20 && c != '\t' || c >= 0x7f }
		switch value := t.Headers[name]; {
		case !ref.IsFieldName(name):
			s.fault(at, "%q is not %s", name, wantFieldName)
		case slices.Contains(ownOfExports, folded) || strings.HasPrefix(folded, "grpc-"):
			s.fault(at, "%s is set by the export itself", name)
		case seen[folded] != "":
			s.fault(at, "is %s once more", seen[folded])
		case value == "":
			s.fault(at, "is empty")
		case strings.ContainsFunc(value, notSent) || strings.Trim(value, " \t") != value:
			s.fault(at, "has a character that no header field can carry, or white space at its ends")
		}
		seen[folded] = name
	}
}

// warn finds the port of the other protocol, by which collectors are not reached.
func (t *Tracing) warn(s site) {
	u, err := url.Parse(t.Endpoint)
	if err != nil {
		return
	}
	switch at := s.firstWritten(s.at("endpoint"), s.path); {
	case t.Protocol == TracingGRPC && u.Port() == "4318":
		s.warn(at, "has the port at which collectors take OTLP over HTTP, and protocol is grpc")
	case t.Protocol == TracingHTTP && u.Port() == "4317":
		s.warn(at, "has the port at which collectors take OTLP over grpc, and protocol is http")
	}
	if u.Scheme == "http" && len(t.Headers) > 0 && !isLoopback(u.Hostname()) {
		s.warn(s.at("headers"), "are sent to %s without TLS, with what is secret in them", u.Host)
	}
}

// withoutUser hides what may be a password.
func withoutUser(text string) string {
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		return "…" + text[i:]
	}
	return text
}
