// Package adminguard is what the operators' addresses of all programs share: who may call, health and
// metrics, and how responses are written.
package adminguard

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
)

// guard decides who may call the admin address. It asks the configuration in force, so that a new
// token holds with the reload that brings it.
//
// A browser is the caller to beware of: it reaches the loopback of its machine for every page that
// it shows. Such a page sends cross-site requests, which say so (Fetch Metadata), or, when its name
// is made to lead to the loopback (DNS rebinding), requests that differ in their Host only.
type guard struct {
	inForce func() *config.Admin
	logger  *slog.Logger
	refused filters.LogThrottle
	handler http.Handler
}

// New returns a handler that lets those pass to another one who may call it. inForce returns the
// section admin of the configuration in force.
func New(inForce func() *config.Admin, logger *slog.Logger, handler http.Handler) http.Handler {
	return &guard{inForce: inForce, logger: logger, handler: http.NewCrossOriginProtection().Handler(handler)}
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	settings := g.inForce()
	switch {
	case !knownHost(r.Host, settings.Hosts):
		WriteProblem(w, http.StatusMisdirectedRequest,
			"The address is not called by this name: admin.hosts lists those beside IP addresses and localhost.")
	case crossSite(r):
		WriteProblem(w, http.StatusForbidden, "The page of another site asks.")
	case settings.Token != "" && !probes[r.URL.Path] && !authorized(r, settings.Token):
		g.refused.Warn(g.logger, time.Now(), "a request to the admin address has not the right token",
			"peer", r.RemoteAddr, "method", r.Method, "path", r.URL.Path)
		w.Header().Set("WWW-Authenticate", "Bearer")
		WriteProblem(w, http.StatusUnauthorized, "admin.token is asked for: Authorization: Bearer TOKEN.")
	case r.Method == http.MethodPost && ofPage(r) && !isJSON(r.Header.Get("Content-Type")):
		WriteProblem(w, http.StatusUnsupportedMediaType, "The body is JSON: Content-Type: application/json.")
	default:
		g.handler.ServeHTTP(w, r)
	}
}

// knownHost reports whether the Host of a request is an address, localhost or one of the names. A
// page cannot have an address in place of its name, but with it. No Host at all is HTTP/1.0, which no
// browser speaks.
func knownHost(host string, names []string) bool {
	if host == "" {
		return true
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, _, _ = strings.Cut(inner, "]")
		_, err := netip.ParseAddr(inner)
		return err == nil
	}
	host, _, _ = strings.Cut(host, ":")
	host = strings.TrimSuffix(host, ".")
	if _, err := netip.ParseAddr(host); err == nil || strings.EqualFold(host, "localhost") {
		return true
	}
	return slices.ContainsFunc(names, func(name string) bool {
		return strings.EqualFold(strings.TrimSuffix(name, "."), host)
	})
}

// crossSite reports whether a browser sends the request for a page of another site: to read what
// cannot be read so, or to make work. A link that is followed is none.
func crossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Method != http.MethodGet
	}
	return false
}

// authorized compares digests, so that the time tells nothing of the token, not even its length.
func authorized(r *http.Request, token string) bool {
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given, want := sha256.Sum256([]byte(strings.TrimSpace(got))), sha256.Sum256([]byte(token))
	same := subtle.ConstantTimeCompare(given[:], want[:]) == 1
	return same && strings.EqualFold(scheme, "Bearer")
}

// ofPage reports whether a request says which page sends it, as browsers' do and no others. Tools call
// JSON a form when they are told nothing else, curl -d for one.
func ofPage(r *http.Request) bool {
	return r.Header.Get("Origin") != "" || r.Header.Get("Referer") != "" || r.Header.Get("Sec-Fetch-Site") != ""
}

// isJSON reports whether a body is sent as JSON, or as nothing in particular: what a page sends as a
// form or a text, no permission was asked for (CORS).
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == "application/json"
}
