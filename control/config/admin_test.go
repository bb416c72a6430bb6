package config

import (
	"strings"
	"testing"
)

// TestAdminAddress: who can be reached from other machines asks for a token.
func TestAdminAddress(t *testing.T) {
	t.Parallel()
	const needs = "admin.address: %s can be reached from other machines: it needs a token (admin.token); " +
		"for health and metrics alone there is admin.probes"
	const notName = " is not a host's name without a port"
	for admin, want := range map[string]string{
		"{}":                          "",
		"{address: '127.8.9.1:9901'}": "",
		"{address: '[::1]:9901'}":     "",
		"{address: 'localhost:9901'}": "",
		"{address: '0.0.0.0:9901', token: a-token-of-some-length}": "",
		"{address: '0.0.0.0:9901'}":                                strings.Replace(needs, "%s", "0.0.0.0:9901", 1),
		"{address: ':9901'}":                                       strings.Replace(needs, "%s", ":9901", 1),
		"{address: '[::]:9901'}":                                   strings.Replace(needs, "%s", "[::]:9901", 1),
		"{address: '10.1.2.3:9901'}":                               strings.Replace(needs, "%s", "10.1.2.3:9901", 1),
		"{address: 'gateway.internal:9901'}":                       strings.Replace(needs, "%s", "gateway.internal:9901", 1),
		"{address: '128.0.0.1:9901', token: ''}":                   "admin.token: is empty",
		"{token: 'a b'}":                                           "admin.token: has a character that is not visible ASCII",
		"{token: \"a\\nb\"}":                                       "admin.token: has a character that is not visible ASCII",
		"{hosts: [gateway.internal, 'a:80']}":                      `admin.hosts[1]: "a:80"` + notName,
		"{hosts: ['http://a']}":                                    `admin.hosts[0]: "http://a"` + notName,
		"{probes: '0.0.0.0:9902'}":                                 "",
		"{probes: '0.0.0.0:9901'}":                                 "admin.probes: 0.0.0.0:9901 is taken by admin.address",
		"{probes: '9902'}":                                         "admin.probes:",
		"{probes: ''}":                                             "admin.probes:",
	} {
		got := strings.Join(faultsOf(t, "version: 1\nadmin: "+admin+"\n"), "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) || strings.Contains(got, "\n") {
			t.Errorf("%s: %q, want %q", admin, got, want)
		}
	}
	expect(t, "warnings", warningsIn(t, "version: 1\nadmin: {token: short}\n"), []string{
		"2:16: warning: admin.token: is short enough to be guessed: 16 characters or more are not"})
}
