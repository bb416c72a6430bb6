package config

import (
	"fmt"
	"strings"
	"testing"
)

// takenOutNames are fields that no reference can be to, with a word of the message.
var takenOutNames = map[string]string{
	"Host": "host is its reference", "HOST": "host is its reference",
	"X-Forwarded-For": "client.ip", "X-Real-IP": "client.ip",
	"X_Real_IP": "client.ip", "True-Client-IP": "client.ip", "Forwarded": "client.ip", "X-Forwarded-Host": "host is",
	"X-Forwarded-Proto": "trusted proxies", "X-Forwarded-Port": "trusted proxies",
	"X-Forwarded-User": "trusted proxies",
	"x.forwarded.user": "trusted proxies", "X-Forwarded": "client.ip", "Via": "writes it itself",
	"traceparent": "every request",
	"Tracestate":  "every request", "Connection": "one connection",
	"Keep-Alive": "one connection", "TE": "one connection",
	"Upgrade": "one connection", "Transfer-Encoding": "one connection", "Transfer_Encoding": "one connection",
	"Trailer": "one connection", "Proxy-Connection": "one connection", "Proxy": "one connection",
	"HTTP2-Settings": "one connection", "Expect": "one connection", "Content-Length": "how the body was sent",
	"Sluice-Principal": "writes it itself", "Sluice-X": "writes it itself", "sluice_op": "writes it itself",
	"Sluice-Attempts": "writes it itself", "Sluice.Op": "writes it itself", "Idempotency_Key": "Idempotency-Key",
}

// TestFieldsThatAreTakenOut: what the gateway takes out of requests, or makes itself, is a fault wherever a setting
// would read it, since it would be the same for everybody.
func TestFieldsThatAreTakenOut(t *testing.T) {
	t.Parallel()
	const routes = "version: 1\nservices: {s: {endpoints: [\"http://h\"]}}\n" +
		"routes:\n  - {name: r, match: {path: /a}, service: s, idempotency: {%s}}\n"
	places := map[string]string{
		"limits.l.per[0]":                        "version: 1\nlimits: {l: {rate: 1/s, per: [header.NAME]}}\n",
		"routes[0].idempotency.scope[0]":         fmt.Sprintf(routes, "scope: [header.NAME]"),
		"routes[0].idempotency.fingerprint[1]":   fmt.Sprintf(routes, "fingerprint: [body, header.NAME]"),
		"routes[0].idempotency.key.derived[0]":   fmt.Sprintf(routes, "key: {derived: [header.NAME]}"),
		"routes[0].idempotency.key.header":       fmt.Sprintf(routes, "key: {header: NAME}"),
		"routes[0].idempotency.probe.path":       fmt.Sprintf(routes, `onUnknown: probe, probe: {path: "/p/{header.NAME}"}`),
		"transactions.t.steps[0].do.path":        transactionWith(`path: "/x/{header.NAME}"`),
		"transactions.t.steps[0].do.body.a.b[0]": transactionWith(`path: /x, body: {a: {b: ["x{header.NAME}"]}}`),
	}
	for place, document := range places {
		for name, part := range takenOutNames {
			faults := strings.Join(faultsOf(t, strings.ReplaceAll(document, "NAME", name)), "\n")
			want := place + ": " + name + " has never a value here: the gateway takes it out of requests, since "
			if !strings.Contains(faults, want) || !strings.Contains(faults, part) || strings.Contains(faults, "\n") {
				t.Errorf("%s: got %q, want %s…%s", name, faults, want, part)
			}
		}
		for _, name := range []string{
			"X-Tenant", "X-Forward", "Sluice", "Sluicegate-X", "Idempotency-Key", "Authorization", "Cookie", "Hosts",
			"X-Host", "baggage", "Content-Type", "Proxy-Authorization",
		} {
			if got := faultsOf(t, strings.ReplaceAll(document, "NAME", name)); len(got) != 0 {
				t.Errorf("%s in %s: %q", name, place, got)
			}
		}
	}
}

func transactionWith(call string) string {
	return "version: 1\nservices: {s: {endpoints: [\"http://h\"]}}\ncoordinator: {dtm: {}}\n" +
		"transactions: {t: {steps: [{name: x, do: {service: s, " + call + "}}]}}\n" +
		"routes: [{name: r, match: {path: /a}, transaction: t, idempotency: {}}]\n"
}

// TestIdentityHeaderThatNeverComes: identity reads what trusted proxies may send, from those only.
func TestIdentityHeaderThatNeverComes(t *testing.T) {
	t.Parallel()
	const document = "version: 1\nlisten: {trustedProxies: [%s]}\nidentity: [{header: {name: %s, trusted: [%s]}}]\n"
	for _, c := range []struct{ proxies, name, trusted, want string }{
		{"", "X-User", "10.0.0.0/8", ""},
		{"10.0.0.0/8", "X-Forwarded-User", "10.1.0.0/16", ""},
		{"10.0.0.0/8", "X-Real-IP", "10.1.2.3", ""},
		{"10.0.0.0/8", "X-Forwarded-User", "10.1.0.0/16, 192.0.2.7",
			"X-Forwarded-User is taken out of what 192.0.2.7/32 sends, which is not among listen.trustedProxies"},
		{"10.1.0.0/16", "X-Forwarded-User", "10.0.0.0/8",
			"X-Forwarded-User is taken out of what 10.0.0.0/8 sends, which is not among listen.trustedProxies"},
		{"10.0.0.0/8", "X-Forwarded-For", "10.0.0.0/8", "X-Forwarded-For has never a value here"},
		{"10.0.0.0/8", "X-Forwarded-Host", "10.0.0.0/8", "X-Forwarded-Host has never a value here"},
		{"10.0.0.0/8", "X_Forwarded_User", "10.0.0.0/8", "X_Forwarded_User has never a value here"},
		{"10.0.0.0/8", "Sluice-Principal", "10.0.0.0/8", "Sluice-Principal has never a value here"},
		{"10.0.0.0/8", "Host", "10.0.0.0/8", "Host has never a value here"},
	} {
		got := strings.Join(faultsOf(t, fmt.Sprintf(document, c.proxies, c.name, c.trusted)), "\n")
		if (c.want == "") != (got == "") || !strings.Contains(got, "identity[0].header.name: "+c.want) && c.want != "" {
			t.Errorf("%s from %s of %s: %q, want %q", c.name, c.trusted, c.proxies, got, c.want)
		}
	}
}

func TestOmittedHeadersThatAreNeverKept(t *testing.T) {
	t.Parallel()
	got := warningsIn(t, "version: 1\nservices: {s: {endpoints: [\"http://h\"]}}\nroutes:\n"+
		"  - {name: r, match: {path: /a}, "+
		"service: s, idempotency: {omitHeaders: [X-Trace, Set-Cookie, connection, Sluice-Attempt]}}\n"+
		"identity: [{clientIP: {}}]\n")
	expect(t, "warnings", got, []string{
		"4:83: warning: routes[0].idempotency.omitHeaders[1]: Set-Cookie is kept with no response",
		"4:95: warning: routes[0].idempotency.omitHeaders[2]: connection is kept with no response",
		"4:107: warning: routes[0].idempotency.omitHeaders[3]: Sluice-Attempt is kept with no response"})
}
