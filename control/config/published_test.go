package config

import (
	"strings"
	"testing"
)

// TestPublishedKeys: keys at a URL are taken as they are written, and no file is looked for.
func TestPublishedKeys(t *testing.T) {
	for _, url := range []string{
		"https://id.shop.example/jwks.json", "https://id.shop.example", "HTTPS://id.shop.example:8443/a?p=b&c=d",
		"https://192.0.2.7/k", "https://[2001:db8::1]:443/k",
	} {
		c := mustParseDocument(t, "version: 1\nidentity: [{jwt: {keys: '"+url+"', audience: a}}]\n", "")
		expect(t, "keys", c.Identity[0].JWT.Keys, url)
		expect(t, "published", c.Identity[0].JWT.Published(), true)
		expect(t, "files", len(c.Files()), 0)
	}
	t.Setenv("SLUICE_TEST_JWKS", "https://id.shop.example/k?secret=1")
	c := mustParseDocument(t, "version: 1\nidentity: [{jwt: {keys: '${env:SLUICE_TEST_JWKS}'}}]\n", "")
	b, err := c.Redacted()
	if err != nil || strings.Contains(string(b), "secret=1") {
		t.Errorf("%v: what came from the environment is shown: %s", err, b)
	}
}

func TestPublishedKeysFaults(t *testing.T) {
	for url, want := range map[string]string{
		"http://id.example/k":     "is fetched over https only: what comes in cleartext may be anybody's",
		"http://127.0.0.1:8080/k": "is fetched over https only: what comes in cleartext may be anybody's",
		"ftp://id.example/k":      "is fetched over https only: what comes in cleartext may be anybody's",
		"file:///k.json":          "is fetched over https only: what comes in cleartext may be anybody's",
		"https://id.example/k#a":  "is a URL that is fetched, so it has no #",
		"https:///k": "is a URL without a sound host: a name, an IPv4 address, or an IPv6 address in " +
			"brackets",
		"https://a_b!/k": "is a URL without a sound host: a name, an IPv4 address, or an IPv6 address in brackets",
		"https://id:/k":  "is a URL without a sound host: a name, an IPv4 address, or an IPv6 address in brackets",
		"https://id:0/k": "is a URL whose port is not 1 to 65535",
		"https://%zz/k":  "is not a URL such as https://id.shop.example/jwks.json",
	} {
		checkFaults(t, "version: 1\nidentity: [{jwt: {keys: '"+url+"'}}]\n",
			[]string{"2:25: identity[0].jwt.keys: \"" + url + "\" " + want})
	}
	checkFaults(t, "version: 1\nidentity: [{jwt: {keys: 'https://ann:pw@id.example/k'}}]\n",
		[]string{"2:25: identity[0].jwt.keys: the URL has credentials before its host: leave them out"})
	// Only where the contract has a URL.
	checkFaults(t, "version: 1\nlisten: {https: {address: ':1', cert: 'https://a/b', key: 'https://a/c'}}\n", []string{
		`2:39: listen.https.cert: "https://a/b" is not a file: an address is not supported yet`,
		`2:59: listen.https.key: "https://a/c" is not a file: an address is not supported yet`,
	})
}
