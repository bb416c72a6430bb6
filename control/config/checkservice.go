package config

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

func (k *checker) service(s *Service, p path) {
	endpoints, sound := k.endpoints(s.Endpoints, p.to("endpoints"))
	if s.TLS != nil {
		k.serviceTLS(s.TLS, p.to("tls"))
		encrypted := slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.TLS })
		if !encrypted && sound && k.sound(p.to("endpoints")) {
			k.fault(p.to("tls"), "is for https:// endpoints, and this service has none")
		}
	}
	if h := s.Health; h != nil {
		k.health(h, p.to("health"))
	}
	if b := s.Breaker; b != nil {
		if b.Errors == 0 {
			k.fault(p.to("breaker", "errors"), "0%% would open it without an error; it is more than 0%%")
		}
		if b.Slow != nil && b.Slow.Share == 0 {
			k.fault(p.to("breaker", "slow", "share"), "0%% would open it without a slow call; it is more than 0%%")
		}
	}
}

// endpoints checks a service's endpoints and returns the sound ones; false when one is not.
func (k *checker) endpoints(written []string, p path) (list []Endpoint, sound bool) {
	first, sound := -1, true
	for i, w := range written {
		e, err := parseEndpoint(w)
		if err != nil || !k.sound(p.item(i)) {
			k.fault(p.item(i), "%q %v", w, err)
			sound = false
			continue
		}
		if first < 0 {
			first = i
		} else if e.HTTP2 != list[0].HTTP2 {
			k.fault(p.item(i), "%q is %s, and endpoints[%d] is %s: a service speaks one of them", w, protocol(e), first, protocol(list[0]))
		}
		list = append(list, e)
	}
	return list, sound
}

func protocol(e Endpoint) string {
	if e.HTTP2 {
		return "HTTP/2 (h2c)"
	}
	return "HTTP/1.1"
}

func (k *checker) serviceTLS(t *ServiceTLS, p path) {
	if t.ServerName != "" && !soundServerName(t.ServerName) {
		k.fault(p.to("serverName"), "%q is neither a host's name nor an address", t.ServerName)
	}
	for _, pair := range [][2]string{{"cert", "key"}, {"key", "cert"}} {
		if has, lacks := p.to(pair[0]), p.to(pair[1]); k.written(has) && !k.written(lacks) {
			k.fault(has, "needs %s beside it", pair[1])
		}
	}
}

func soundServerName(name string) bool {
	_, err := netip.ParseAddr(name)
	return soundHost(name, err == nil && strings.Contains(name, ":"))
}

func (k *checker) health(h *Health, p path) {
	if why := targetFault(h.Path); why != "" && k.written(p.to("path")) {
		k.fault(p.to("path"), "%q %s", h.Path, why)
	}
	if h.Timeout > h.Every && k.sound(p.to("timeout"), p.to("every")) {
		k.fault(k.firstWritten(p.to("timeout"), p.to("every")), "timeout %s is more than every %s", h.Timeout, h.Every)
	}
}

var (
	targetForm = regexp.MustCompile(`^/([A-Za-z0-9._~!$&'()*+,=:@/-]|%[0-9A-F]{2})*$`)
	queryForm  = regexp.MustCompile(`^[!-~]*$`)
	escapeForm = regexp.MustCompile(`%[0-9A-F]{2}`)
)

// targetFault says why a path, with or without a query, cannot be requested just as it is written, or nothing. A path that two
// servers could read in two ways is refused, as the gateway's router does it.
func targetFault(target string) string {
	path, query, _ := strings.Cut(target, "?")
	switch {
	case !strings.HasPrefix(path, "/"):
		return "has to begin with /"
	case strings.Contains(target, "#"):
		return "has a fragment, and a request has none"
	case !targetForm.MatchString(path):
		return "has a character that a path has only escaped (%20, in capitals), or not at all (; and \\)"
	case !queryForm.MatchString(query):
		return "has a character in its query that has to be escaped"
	}
	for _, escape := range escapeForm.FindAllString(path, -1) {
		if c, _ := url.PathUnescape(escape); c < " " || c == "/" || c == `\` || c == "\x7f" {
			return "has " + escape + ", and no request's path has it"
		} else if hostForm.MatchString(c) || c == "~" {
			return "has " + escape + ": write the character itself"
		}
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		switch {
		case s == "" && i < len(segments)-1:
			return "has an empty segment, and no request's path has one"
		case s == "." || s == "..":
			return "has the segment " + s + ", and no request's path has one"
		}
	}
	return ""
}
