package envoydialect

import (
	"regexp"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sluice-gateway/sluice/control/config"
)

const (
	principalHeader = "sluice-principal" // tells the services who asks, and the limits
	clientHeader    = "x-sluice-client"  // tells the limits the client's address; no service sees it

	clientAddress = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
)

// jwt is the source of tokens, or nil.
func (c *compiler) jwt() *config.JWT {
	for _, source := range c.cfg.Identity {
		if source.JWT != nil {
			return source.JWT
		}
	}
	return nil
}

// identityFilters take out the fields of identity that come from elsewhere than a trusted peer,
// verify tokens, and write who asks.
func (c *compiler) identityFilters() []*httpFilter {
	var list []*httpFilter
	who := []*mutationv3.HeaderMutation{write(set(clientHeader, clientAddress))}
	for n, source := range c.cfg.Identity {
		switch {
		case source.JWT != nil:
			list = append(list, off(c.filter(jwtFilter, c.authentication(source.JWT))))
			who = append(who, write(setAbsent(principalHeader,
				"%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:"+tokenKey+":"+source.JWT.Claim+")%")))
			c.reportJWT(n, source.JWT)
		case source.Header != nil:
			strip := mutation([]*mutationv3.HeaderMutation{removeAll(lookalikes(source.Header.Name))}, nil)
			filter := "sluice.identity." + strings.ToLower(source.Header.Name)
			list = append(list, c.unless(filter, source.Header.Trusted, strip))
			who = append(who, write(setAbsent(principalHeader, "%REQ("+source.Header.Name+")%")))
			c.approximate(identityPlace(n), "header", "a value that cannot be a principal (it begins with ip:, is "+
				"longer "+
				"than 255 bytes, or comes twice) is not refused with 401, but on routes that pass through ext_proc")
		default:
			if source.ClientIP.Prefix6 < 128 {
				c.approximate(identityPlace(n), "clientIP", "a client of IPv6 is its whole address, but on routes "+
					"that "+
					"pass through ext_proc")
			}
		}
	}
	who = append(who, write(setAbsent(principalHeader, "ip:"+clientAddress)))
	return append(list, off(c.filter(principalFilter, mutation(who, nil))))
}

// lookalikes matches a field's name, and what servers take for it that read everything but letters
// and digits as an underscore.
func lookalikes(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			b.WriteString(regexp.QuoteMeta(string(r)))
		} else {
			b.WriteString("[^a-z0-9]")
		}
	}
	return b.String()
}

// impostors matches what servers take for a field that read everything but letters and digits as an
// underscore, and not the field itself.
func impostors(name string) string {
	name = strings.ToLower(name)
	var alternatives []string
	for i, r := range name {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			continue
		}
		alternatives = append(alternatives,
			lookalikes(name[:i])+"[^a-z0-9"+regexp.QuoteMeta(string(r))+"]"+lookalikes(name[i+1:]))
	}
	return strings.Join(alternatives, "|")
}

const (
	tokenKey    = "claims" // the member of jwt_authn's metadata that has them
	tokenSource = "token"
)

func (c *compiler) authentication(j *config.JWT) *jwtv3.JwtAuthentication {
	p := &jwtv3.JwtProvider{
		Issuer: j.Issuer, Forward: true, PayloadInMetadata: tokenKey, ClockSkewSeconds: 30,
		FromHeaders: []*jwtv3.JwtHeader{{Name: "authorization", ValuePrefix: "Bearer "}},
	}
	if j.Audience != "" {
		p.Audiences = []string{j.Audience}
	}
	if j.Cookie != "" {
		p.FromCookies = []string{j.Cookie}
	}
	if j.Published() {
		p.JwksSourceSpecifier = &jwtv3.JwtProvider_RemoteJwks{RemoteJwks: &jwtv3.RemoteJwks{
			HttpUri: &corev3.HttpUri{Uri: j.Keys, Timeout: duration(config.Duration(5e9)),
				HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: keysCluster}},
			CacheDuration: duration(config.Duration(600e9)),
			AsyncFetch:    &jwtv3.JwksAsyncFetch{},
		}}
	} else {
		p.JwksSourceSpecifier = &jwtv3.JwtProvider_LocalJwks{LocalJwks: file(j.Keys)}
	}
	required := &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_ProviderName{ProviderName: tokenSource}}
	if !j.Required {
		required = &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_RequiresAny{
			RequiresAny: &jwtv3.JwtRequirementOrList{Requirements: []*jwtv3.JwtRequirement{
				required,
				{RequiresType: &jwtv3.JwtRequirement_AllowMissing{AllowMissing: &emptypb.Empty{}}},
			}},
		}}
	}
	return &jwtv3.JwtAuthentication{
		Providers:      map[string]*jwtv3.JwtProvider{tokenSource: p},
		RequirementMap: map[string]*jwtv3.JwtRequirement{tokenSource: required},
	}
}

func (c *compiler) reportJWT(n int, j *config.JWT) {
	place := identityPlace(n)
	if n > 0 {
		c.approximate(place, "jwt", "a token is verified on every request, also where a source before it applies")
	}
	if j.Cookie != "" {
		c.approximate(place, "jwt.cookie", "a token in the cookie is taken whatever the method")
	}
	if !j.Published() {
		c.approximate(place, "jwt.keys", "the key set is the file %s of Envoy's machine", j.Keys)
	}
}

// identifies reports whether Envoy itself has to know who asks on a route. It follows
// gateway/policy: a static response without limits is the same for everybody.
func (c *compiler) identifies(r *config.Route) bool {
	return !leadsToTransaction(r) && len(LeftToExtProc(c.cfg, r)) == 0 && (len(r.Limits) > 0 || !r.Static())
}
