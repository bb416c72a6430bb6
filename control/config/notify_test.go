package config

import (
	"strings"
	"testing"
)

func TestNotify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ notify, want string }{
		{`{url: "https://shop.example/hooks?of=shop", secret: sixteen-bytes-ok}`, ""},
		{`{url: "http://10.1.2.3:8080/hooks", secret: sixteen-bytes-ok, private: true}`, ""},
		{`{url: "https://1.1.1.1/", secret: sixteen-bytes-ok}`, ""},
		{`{secret: sixteen-bytes-ok}`, "transactions.t.notify.url: is missing"},
		{`{url: "https://shop.example/"}`, "transactions.t.notify.secret: is missing"},
		{`{url: "https://shop.example/", secret: short}`, "notify.secret: has 5 bytes, want at least 16"},
		{`{url: "shop.example/hooks", secret: sixteen-bytes-ok}`, "notify.url: is not a URL"},
		{`{url: "https:///hooks", secret: sixteen-bytes-ok}`, "notify.url: is not a URL"},
		{`{url: "https://h:0/", secret: sixteen-bytes-ok}`, "notify.url: is not a URL"},
		{`{url: "ftp://h/", secret: sixteen-bytes-ok}`, "notify.url: is not a URL"},
		{`{url: "https://user:pass@h/", secret: sixteen-bytes-ok}`, "notify.url: has a user in it"},
		{`{url: "https://h/#here", secret: sixteen-bytes-ok}`, "notify.url: has a fragment"},
		{`{url: "http://shop.example/", secret: sixteen-bytes-ok}`, "notify.url: is http"},
		{`{url: "https://localhost/", secret: sixteen-bytes-ok}`,
			`notify.url: "localhost" is not an address of the public`},
		{`{url: "https://169.254.169.254/", secret: sixteen-bytes-ok}`, "is not an address of the public internet"},
		{`{url: "https://[::ffff:10.0.0.1]/", secret: sixteen-bytes-ok}`, "is not an address of the public internet"},
		{`{url: "https://h/", secret: sixteen-bytes-ok, private: yes-please}`, "notify.private"},
		{`{url: "https://h/", secret: sixteen-bytes-ok, retries: 3}`, "retries"},
	} {
		list := faultsOf(t, "version: 1\nservices: {a: {endpoints: [http://h]}}\ncoordinator: {dtm: {}}\n"+
			undoingWith("", "notify: "+c.notify)+"\nroutes: [{name: r, match: {path: /}, transaction: t, idempotency: "+
			"{required: true}}]\n")
		text := strings.Join(list, "\n")
		switch {
		case c.want == "" && len(list) > 0:
			t.Errorf("%s: %s", c.notify, text)
		case c.want != "" && !strings.Contains(text, c.want):
			t.Errorf("%s: %q, want %q", c.notify, text, c.want)
		}
		if strings.Contains(text, "sixteen-bytes-ok") || strings.Contains(text, "pass@") {
			t.Errorf("%s: a secret is in %q", c.notify, text)
		}
	}
}
