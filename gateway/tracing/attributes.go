package tracing

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"

	"github.com/sluice-gateway/sluice/filters"
)

// Attributes of the semantic conventions for HTTP and RPC
// (https://opentelemetry.io/docs/specs/semconv/http/http-spans/), and our own.
const (
	methodKey         = attribute.Key("http.request.method")
	methodOriginalKey = attribute.Key("http.request.method_original")
	resendKey         = attribute.Key("http.request.resend_count")
	statusKey         = attribute.Key("http.response.status_code")
	httpRouteKey      = attribute.Key("http.route")
	schemeKey         = attribute.Key("url.scheme")
	pathKey           = attribute.Key("url.path")
	fullKey           = attribute.Key("url.full")
	serverAddressKey  = attribute.Key("server.address")
	serverPortKey     = attribute.Key("server.port")
	clientAddressKey  = attribute.Key("client.address")
	peerAddressKey    = attribute.Key("network.peer.address")
	peerPortKey       = attribute.Key("network.peer.port")
	versionKey        = attribute.Key("network.protocol.version")
	userAgentKey      = attribute.Key("user_agent.original")
	errorKey          = attribute.Key("error.type")
	grpcStatusKey     = attribute.Key("rpc.grpc.status_code")
	peerServiceKey    = attribute.Key("peer.service")

	routeKey     = attribute.Key("sluice.route")
	serviceKey   = attribute.Key("sluice.service")
	endpointKey  = attribute.Key("sluice.endpoint")
	reasonKey    = attribute.Key("sluice.reason")
	requestIDKey = attribute.Key("sluice.request_id")
	recordKey    = attribute.Key("sluice.record")
	attemptKey   = attribute.Key("sluice.attempt")
	replayedKey  = attribute.Key("sluice.replayed")
	principalKey = attribute.Key("sluice.principal")
	storeTimeKey = attribute.Key("sluice.store_ms")
	queueTimeKey = attribute.Key("sluice.queue_ms")
	callTimeKey  = attribute.Key("sluice.service_ms")
	gidKey       = attribute.Key("sluice.transaction")
	stepKey      = attribute.Key("sluice.step")
	opKey        = attribute.Key("sluice.op")
	branchKey    = attribute.Key("sluice.branch")
	outcomeKey   = attribute.Key("sluice.outcome")
	policyKey    = attribute.Key("sluice.policy")
	decisionKey  = attribute.Key("sluice.decision")
	subjectKey   = attribute.Key("sluice.subject")
)

var background = context.Background()

// textBytesMax is how long a text in a span may be.
const textBytesMax = 256

// textOf returns a copy of a text of somebody else's that a span can have: cut, and valid UTF-8, since anything else
// has the whole batch refused.
func textOf(s string, most int) string {
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most]
	}
	if utf8.ValidString(s) {
		return strings.Clone(s)
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// method returns a method as spans are named: one that is not known could be anything.
func method(m string) string {
	switch m {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "PUT":
		return "PUT"
	case "DELETE":
		return "DELETE"
	case "HEAD":
		return "HEAD"
	case "PATCH":
		return "PATCH"
	case "OPTIONS":
		return "OPTIONS"
	}
	return otherMethod
}

// otherMethod stands in the names of spans for a method that is not known.
const otherMethod = "HTTP"

// methodValue returns what the attribute has for the name of a method.
func methodValue(name string) string {
	if name == otherMethod {
		return "_OTHER"
	}
	return name
}

// list collects attributes. What is empty is left out.
type list []attribute.KeyValue

func (l *list) text(k attribute.Key, v string) {
	if v != "" {
		*l = append(*l, k.String(textOf(v, textBytesMax)))
	}
}

func (l *list) number(k attribute.Key, n int) {
	if n != 0 {
		*l = append(*l, k.Int(n))
	}
}

func (l *list) duration(k attribute.Key, d time.Duration) {
	if d != 0 {
		*l = append(*l, k.Float64(milliseconds(d)))
	}
}

// hostPort splits what may be an address with a port.
func (l *list) hostPort(host, port attribute.Key, v string) {
	h, p, err := net.SplitHostPort(v)
	if err != nil {
		l.text(host, v)
		return
	}
	l.text(host, h)
	if n, err := strconv.ParseUint(p, 10, 16); err == nil {
		l.number(port, int(n))
	}
}

// ofRequest returns what is known of a client's request at its end.
func ofRequest(x *filters.Exchange, r *request) []attribute.KeyValue {
	l := make(list, 0, attributesMax)
	name := method(x.Method)
	l.text(methodKey, methodValue(name))
	if name == otherMethod {
		l.text(methodOriginalKey, x.Method)
	}
	l.text(schemeKey, x.Scheme)
	l.text(pathKey, x.Path)
	l.text(versionKey, x.Version)
	l.hostPort(serverAddressKey, serverPortKey, x.Host)
	if x.Client.IsValid() {
		l.text(clientAddressKey, x.Client.String())
	}
	if x.Peer.IsValid() {
		l.text(peerAddressKey, x.Peer.String())
	}
	l.text(userAgentKey, x.Header.Get("User-Agent"))
	l.number(statusKey, x.Response.Status)
	reason := reasonOf(x)
	l.text(reasonKey, string(reason))
	if r.failed(x) {
		if reason == "" {
			l.text(errorKey, strconv.Itoa(x.Response.Status))
		} else {
			l.text(errorKey, string(reason))
		}
	}
	if r.coded {
		l = append(l, grpcStatusKey.Int(int(r.code)))
	}
	l.text(serviceKey, x.Service)
	l.text(endpointKey, x.Endpoint)
	l.text(requestIDKey, x.Inject.Get("Sluice-Request-Id"))
	l.text(principalKey, filters.HashedPrincipal(x.Principal))
	l.text(recordKey, x.Logical.Key)
	l.text(gidKey, x.Logical.GID)
	l.number(attemptKey, x.Logical.Attempt)
	if x.Measured.Replayed {
		l = append(l, replayedKey.Bool(true))
	}
	l.duration(callTimeKey, x.Measured.Service)
	l.duration(storeTimeKey, x.Measured.Store)
	l.duration(queueTimeKey, x.Measured.Queue)
	return l
}

// ofAttempt returns where an attempt went and how it ended.
func ofAttempt(path string, e *filters.AttemptEnd) []attribute.KeyValue {
	l := make(list, 0, 9)
	l.hostPort(serverAddressKey, serverPortKey, e.Host)
	l.hostPort(peerAddressKey, peerPortKey, e.Address)
	if e.Host != "" && !strings.HasPrefix(e.Host, "/") { // a socket
		scheme := "http"
		if e.TLS {
			scheme = "https"
		}
		l.text(fullKey, scheme+"://"+e.Host+path)
	}
	l.number(statusKey, e.Status)
	switch {
	case e.Fault != "":
		l.text(errorKey, e.Fault)
	case e.Status >= 400:
		l.text(errorKey, strconv.Itoa(e.Status))
	}
	return l
}

// reasonOf returns the reason under which a request is counted.
func reasonOf(x *filters.Exchange) filters.Reason {
	if x.Response.Reason != "" {
		return x.Response.Reason
	}
	return x.Measured.Reason
}

// failed reports whether a request failed on this side: what is wrong with a request is its client's (the conventions
// on the status of a server's span).
func (r *request) failed(x *filters.Exchange) bool {
	if x.Response.Status >= 500 {
		return true
	}
	switch reasonOf(x) {
	case filters.UpstreamFailed, filters.UpstreamTimeout: // behind the head of a response
		return true
	}
	return r.coded && r.code.ServerFault()
}
