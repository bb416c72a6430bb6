package config

import (
	"net/netip"
	"net/url"
	"strings"
)

// Notify is the receiver of the ends of transactions.
type Notify struct {
	URL     string `json:"url" jsonschema:"required" config:"url"`
	Secret  string `json:"secret" jsonschema:"required" config:"secret"`
	Private bool   `json:"private"`
}

func (Notify) describe() descriptions {
	return descriptions{
		"":        "Where the end of a transaction is posted to.",
		"URL":     "https URL of the receiver; http only with private.",
		"Secret":  "Signs what is posted; set it with ${file:PATH}.",
		"Private": "The receiver may have an address that is not public.",
	}
}

func (n *Notify) check(s site) {
	if size := len(n.Secret); n.Secret != "" && size < secretBytesMin {
		s.fault(s.at("secret"), "has %d bytes, want at least %d", size, secretBytesMin)
	}
	if n.URL == "" {
		return
	}
	u, err := url.Parse(n.URL)
	at := s.at("url")
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "" ||
		u.Port() != "" && (!soundPort(u.Port()) || u.Port() == "0"):
		s.fault(at, "is not a URL such as https://shop.example/hooks")
	case u.User != nil:
		s.fault(at, "has a user in it: what is posted is signed with secret, and nothing else")
	case strings.Contains(n.URL, "#"):
		s.fault(at, "has a fragment, which is not sent")
	case u.Scheme == "http" && !n.Private:
		s.fault(at,
			"is http: over the public internet it has to be https. In a network of your own write private: true")
	case !n.Private && insideHost(u.Hostname()):
		s.fault(at, "%q is not an address of the public internet. For a receiver of your own write private: true",
			u.Hostname())
	}
}

// insideHost reports whether a host is one of this machine or network as it is written. What a name leads to is
// looked at when it is dialled.
func insideHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	a = a.Unmap()
	return !a.IsGlobalUnicast() || a.IsPrivate()
}
