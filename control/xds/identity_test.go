package xds

import (
	"net"
	"strings"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/bench/kit/xdsclient"
	"github.com/sluice-gateway/sluice/control/config"
)

func TestWhichCertificateMayBeWhichNode(t *testing.T) {
	t.Parallel()
	rules := nodeRules{
		"spiffe://shop/gateway/*": "edge",
		"spiffe://shop/envoy/*":   "envoy-*",
		"spiffe://shop/admin":     "canary",
		"*.nodes.shop":            "dns-*",
		"plain.shop":              "plain",
	}
	for _, c := range []struct {
		name, id string
		want     bool
	}{
		{"spiffe://shop/gateway/a", "edge", true}, {"spiffe://shop/gateway/a", "edge-1", true},
		{"spiffe://shop/gateway/a", "edge/1", true}, {"spiffe://shop/gateway/a", "edge.eu:1", true},
		{"spiffe://shop/gateway/a", "edgeone", false}, {"spiffe://shop/gateway/a", "Edge-1", false},
		{"spiffe://shop/gateway/a", "other-edge", false}, {"spiffe://shop/gateway/a", "envoy-a", false},
		{"spiffe://shop/gateway/a/b", "edge", false}, {"spiffe://shop/gateway/", "edge", false},
		{"spiffe://shop/gateway", "edge", false}, {"spiffe://evil/gateway/a", "edge", false},
		{"spiffe://shop/gateway/a", "", false},
		{"spiffe://shop/envoy/7", "envoy-7", true}, {"spiffe://shop/envoy/7", "envoy-8", false},
		{"spiffe://shop/envoy/7", "envoy-", false}, {"spiffe://shop/envoy/7", "envoy-7-x", false},
		{"spiffe://shop/admin", "canary", true}, {"spiffe://shop/admin2", "canary", false},
		{"n1.nodes.shop", "dns-n1", true}, {"N1.Nodes.Shop", "dns-n1", true},
		{"a.b.nodes.shop", "dns-a.b", false}, {"nodes.shop", "dns-", false},
		{"n1.nodes.shop.evil", "dns-n1", false}, {"plain.shop", "plain-2", true}, {"", "edge", false},
		{"spiffe://shop/x/n1.nodes.shop", "dns-spiffe://shop/x/n1", false},
		{"spiffe://n1.nodes.shop", "dns-spiffe://n1", false},
	} {
		if got := rules.permit([]string{"unrelated", c.name}, c.id); got != c.want {
			t.Errorf("%q as %q: %t, want %t", c.name, c.id, got, c.want)
		}
	}
	if (nodeRules{}).permit([]string{"a"}, "a") || rules.permit(nil, "edge") {
		t.Error("permitted by nothing")
	}
}

// secure is the head of a document with certificates in the folder that it is read from.
const secure = `version: 1
admin: {address: "127.0.0.1:0"}
control:
  listen: {address: "127.0.0.1:0", cert: cp.crt, key: cp.key, clientCA: nodes.ca}
  nodes: {"spiffe://shop/gateway/*": edge}
`

func parseIn(t testing.TB, dir, text string) *config.Document {
	t.Helper()
	d, err := config.ParseDocument("t.yaml", []byte(text), dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func with(c credentials.TransportCredentials) func(*xdsclient.Options) {
	return func(o *xdsclient.Options) { o.Credentials = c }
}

func TestNodesShowCertificates(t *testing.T) {
	t.Parallel()
	ours, other, dir := newAuthority(t), newAuthority(t), t.TempDir()
	ours.server(dir)
	d := parseIn(t, dir, documentOf(secure, 200))
	r := startDocument(t, d)
	good := ours.node("spiffe://shop/gateway/a", ours)
	c := r.gateway("edge-1", with(good))
	awaitVersion(t, c, resource.ExtensionConfigType, d.Hash())
	s := r.await("the node", func(s Status) bool { return len(s.Nodes) == 1 })
	if s.Nodes[0].Certificate != "spiffe://shop/gateway/a" {
		t.Errorf("certificate %q", s.Nodes[0].Certificate)
	}
	for _, c := range []struct {
		what, id string
		with     credentials.TransportCredentials
		want     codes.Code
		contains string
	}{
		{"another node's id", "envoy-1", good, codes.PermissionDenied, `may not be the node "envoy-1"`},
		{"another name", "edge-2", ours.node("spiffe://shop/x/a", ours), codes.PermissionDenied, "control.nodes"},
		{"another certificate at once", "edge-1", ours.node("spiffe://shop/gateway/b", ours), codes.PermissionDenied,
			"may not be the same node at one time"},
		{"no id", "", good, codes.InvalidArgument, "no node id"},
		{"an id with a line break", "edge-1\n", good, codes.InvalidArgument, "visible ASCII"},
		{"another authority", "edge-3", other.node("spiffe://shop/gateway/a", ours), codes.Unavailable, ""},
		{"no TLS", "edge-4", nil, codes.Unavailable, ""},
	} {
		err := awaitError(t, r.gateway(c.id, with(c.with)))
		if status.Code(err) != c.want || !strings.Contains(err.Error(), c.contains) {
			t.Errorf("%s: %v, want %s with %q", c.what, err, c.want, c.contains)
		}
	}
	if r.stop(); !strings.Contains(r.log.String(), "a stream of a node is refused") {
		t.Errorf("log:\n%s", r.log)
	}
}

// TestCertificatesAreRenewed: what is written over holds from the next handshake on, and a node that
// may no longer be one is cut off.
func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	ours, next, dir := newAuthority(t), newAuthority(t), t.TempDir()
	ours.server(dir)
	r := startDocument(t, parseIn(t, dir, documentOf(secure, 200)))
	before := r.gateway("edge-1", with(ours.node("spiffe://shop/gateway/a", ours)))
	r.await("the node", func(s Status) bool { return len(s.Nodes) == 1 })
	next.server(dir)
	d := parseIn(t, dir, documentOf(secure, 200))
	if err := r.sink.Apply(d, false); err != nil {
		t.Fatal(err)
	}
	after := r.gateway("edge-2", with(next.node("spiffe://shop/gateway/b", next)))
	awaitVersion(t, after, resource.ExtensionConfigType, d.Hash())
	if err := awaitError(t, r.gateway("edge-3", with(ours.node("spiffe://shop/gateway/c", next)))); err == nil {
		t.Error("a certificate of the old authority is taken")
	}
	awaitVersion(t, before, resource.ExtensionConfigType, d.Hash())
	narrow := strings.Replace(documentOf(secure, 200), "gateway/*", "gateway/b", 1)
	if err := r.sink.Apply(parseIn(t, dir, narrow), false); err != nil {
		t.Fatal(err)
	}
	if err := awaitError(t, before); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the node that is no longer one: %v", err)
	}
	awaitVersion(t, after, resource.ExtensionConfigType, d.Hash())
	broken := strings.Replace(documentOf(secure, 200), "key: cp.key", "key: nodes.ca", 1)
	err := r.sink.Apply(parseIn(t, dir, broken), false)
	if err == nil || !strings.Contains(err.Error(), "t.yaml:4:") ||
		!strings.Contains(err.Error(), "control.listen.key") {
		t.Errorf("a key that is none: %v", err)
	}
}

const secret = `identity: [{header: {name: X-User, trusted: [127.0.0.0/8]}}]
sales:
  s: {routes: [a], item: body.sku, stock: {S: 1}, opens: 2026-11-11T00:00:00Z, closes: 2026-11-12T00:00:00Z,
    admit: 1/s, waitingRoom: {secret: "0123456789abcdef0123456789abcdef"}}
services: {b: {endpoints: ["http://127.0.0.1:1"]}}
routes: [{name: a, match: {methods: [POST], path: /a}, service: b, idempotency: {required: true}}]
`

// TestSecretsTravelOverMTLSOnly: without certificates a gateway is told so, and sent nothing.
func TestSecretsTravelOverMTLSOnly(t *testing.T) {
	t.Parallel()
	d := parse(t, control+secret)
	if len(d.Secrets()) == 0 {
		t.Fatal("the document has no secret")
	}
	r := startDocument(t, parse(t, documentOf(control, 200)))
	before := r.gateway("edge-1")
	r.await("the node", func(s Status) bool { return len(s.Nodes) == 1 && s.Nodes[0].Version != "" })
	if err := r.sink.Apply(d, false); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*xdsclient.Client{before, r.gateway("edge-2")} {
		err := awaitError(t, c)
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "over mTLS only") ||
			!strings.Contains(err.Error(), "waitingRoom.secret (t.yaml:") ||
			strings.Contains(err.Error(), "0123456789") {
			t.Errorf("the stream ended with %v", err)
		}
		if s, _ := c.State(); s.Versions[resource.ExtensionConfigType] == d.Hash() {
			t.Error("it was sent it all the same")
		}
	}
	if strings.Contains(r.log.String(), "0123456789") {
		t.Error("the secret is in the log")
	}

	ours, dir := newAuthority(t), t.TempDir()
	ours.server(dir)
	d = parseIn(t, dir, secure+secret)
	r = startDocument(t, d)
	c := r.gateway("edge-1", with(ours.node("spiffe://shop/gateway/a", ours)))
	awaitVersion(t, c, resource.ExtensionConfigType, d.Hash())
}

// TestHandshakesThatFailAreTold: an operator sees who cannot connect and why, and a probe of the port is nobody.
func TestHandshakesThatFailAreTold(t *testing.T) {
	t.Parallel()
	ours, other, dir := newAuthority(t), newAuthority(t), t.TempDir()
	ours.server(dir)
	r := startDocument(t, parseIn(t, dir, documentOf(secure, 200)))
	probe, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	probe.Close()
	awaitError(t, r.gateway("edge-1", with(other.node("spiffe://shop/gateway/a", ours))))
	r.await("the log", func(Status) bool { return strings.Contains(r.log.String(), "unknown authority") })
	if strings.Contains(r.log.String(), "EOF") {
		t.Errorf("a probe is told of:\n%s", r.log)
	}
}
