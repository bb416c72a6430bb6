package waitingroom

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// formBytesMax and formFieldsMax bound the form that a page has with it.
const (
	formBytesMax  = 16 << 10
	formFieldsMax = 64
)

// isNavigation reports whether a browser asks, for a page that it is going to show. A browser says so (Fetch Metadata,
// W3C); an old one that does not prefers HTML.
func isNavigation(h filters.Header) bool {
	if mode, ok := h.Lookup("Sec-Fetch-Mode"); ok && mode != "navigate" {
		return false
	}
	for i := range h {
		if filters.EqualName(h[i].Name, "Accept") && acceptsHTML(h[i].Value) {
			return true
		}
	}
	return false
}

// acceptsHTML reports whether text/html is named, with a weight above 0. A wildcard names nothing: programs send it.
func acceptsHTML(accept string) bool {
	for accept != "" {
		var item string
		item, accept, _ = strings.Cut(accept, ",")
		name, parameters, _ := strings.Cut(item, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "text/html") {
			continue
		}
		for parameters != "" {
			var p string
			p, parameters, _ = strings.Cut(parameters, ";")
			key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
			if !strings.EqualFold(key, "q") {
				continue
			}
			if weight, err := strconv.ParseFloat(value, 64); err != nil || weight <= 0 {
				return false
			}
		}
		return true
	}
	return false
}

// form is what a browser has sent, so that the page can send it again.
type form struct {
	fields []filters.Field
	ok     bool // there is something to send again, all of it is here, and it is the site's own
}

// formOf returns the form of a POST. The page sends it again as the site itself would. So only one that the site sent
// is taken: another site must not have the browser send its form with this site's cookies (Sec-Fetch-Site, and Origin
// of a browser that does not say).
//
// load reads the body where no filter has done so yet.
func formOf(x *filters.Exchange, load bool) (f form) {
	media, _, _ := strings.Cut(x.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded") || !sameOrigin(x) {
		return form{}
	}
	if load {
		_, _ = x.Body() // where it cannot be read there is no form, and the exchange keeps the error
	}
	body, loaded := x.BodyLoaded()
	if !loaded || len(body) > formBytesMax {
		return form{}
	}
	for rest := filters.Alias(body); rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(key)
		value, err2 := url.QueryUnescape(value)
		if err != nil || err2 != nil || len(f.fields) == formFieldsMax {
			return form{}
		}
		f.fields = append(f.fields, filters.Field{Name: key, Value: value})
	}
	f.ok = true
	return f
}

// sameOrigin reports whether the browser says that a page of this site sent the request.
func sameOrigin(x *filters.Exchange) bool {
	if site, ok := x.Header.Lookup("Sec-Fetch-Site"); ok {
		return site == "same-origin"
	}
	origin, ok := x.Header.Lookup("Origin")
	if !ok {
		return false
	}
	scheme, host, _ := strings.Cut(origin, "://")
	return scheme == schemeOf(x) && strings.EqualFold(host, x.Host)
}

// schemeOf returns how the client reaches the gateway, or the proxy before it that is trusted.
func schemeOf(x *filters.Exchange) string {
	if s := x.Inject.Get("X-Forwarded-Proto"); s != "" {
		return s
	}
	return x.Scheme
}

const pageStyle = `:root{color-scheme:light dark}` +
	`body{margin:0;min-height:100vh;display:flex;align-items:center;justify-content:center;` +
	`font:1.125rem/1.5 system-ui,sans-serif;background:Canvas;color:CanvasText}` +
	`main{max-width:32rem;padding:2rem}h1{font-size:1.5rem;line-height:1.25;margin:0 0 1rem}` +
	`dl{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1.5rem;margin:1.5rem 0;` +
	`padding:1rem 0;border:solid GrayText;border-width:1px 0}` +
	`dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums}` +
	`button{font:inherit;padding:.5rem 1.5rem}small{opacity:.8}`

// pagePolicy lets the page do what it does and nothing else: its style is named by its digest.
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// browser makes the reply to a browser: a page that loads itself again when it is time to. A form that was sent is
// not sent again by itself, since only a script could do that: the page has a button for it.
func (w *waiting) browser(sale string, method string, f form) *filters.Reply {
	r := w.head("text/html; charset=utf-8")
	r.Header.Add("Content-Security-Policy", pagePolicy)
	r.Header.Add("X-Content-Type-Options", "nosniff")
	r.Header.Add("Referrer-Policy", "same-origin")
	safe := method == "GET" || method == "HEAD"
	var b strings.Builder
	b.Grow(2048)
	b.WriteString(`<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">` +
		`<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">`)
	if safe {
		seconds := strconv.FormatInt(filters.WholeSeconds(w.retry), 10)
		b.WriteString(`<meta http-equiv="refresh" content="` + seconds + `">`)
	}
	title := w.title()
	b.WriteString("<title>" + title + "</title><style>" + pageStyle + "</style></head><body><main>")
	b.WriteString("<h1>" + title + "</h1>")
	b.WriteString("<p>Many people want to buy at once. You are let in when it is your turn.</p>")
	w.list(&b, sale)
	if w.refused {
		b.WriteString("<p>Your earlier place has expired or was not yours. You have a new one.</p>")
	}
	switch {
	case safe:
		b.WriteString("<p>This page loads itself again. Keep it open: your place is kept.</p>")
	case f.ok:
		b.WriteString("<p>Your place is kept. Press the button in about " + duration(w.retry) +
			`: it sends your form again.</p><form method="post">`)
		for _, field := range f.fields {
			b.WriteString(`<input type="hidden" name="` + html.EscapeString(field.Name) + `" value="` +
				html.EscapeString(field.Value) + `">`)
		}
		b.WriteString("<button>Try again</button></form>")
	default:
		b.WriteString("<p>Your place is kept. Go back in about " + duration(w.retry) + " and send your form again.</p>")
	}
	b.WriteString("<small>Nothing was ordered just now.</small></main></body></html>\n")
	r.Body = []byte(b.String())
	return r
}

func (w *waiting) title() string {
	switch {
	case !w.opens.IsZero():
		return "The sale has not opened yet"
	case w.place == 0:
		return "You are about to get a place"
	case w.place == 1:
		return "You are next"
	}
	return "You are number " + strconv.FormatInt(w.place, 10) + " in the queue"
}

// list writes what there is to tell in numbers.
func (w *waiting) list(b *strings.Builder, sale string) {
	row := func(term, value string) { b.WriteString("<dt>" + term + "</dt><dd>" + value + "</dd>") }
	b.WriteString("<dl>")
	row("Sale", html.EscapeString(sale))
	if !w.opens.IsZero() {
		at := w.opens.Format("2006-01-02 15:04:05 MST")
		row("Opens", `<time datetime="`+w.opens.UTC().Format(time.RFC3339)+`">`+html.EscapeString(at)+"</time>")
		row("Waiting", "about "+strconv.FormatInt(w.others, 10))
		row("Your place", "drawn by lot when the sale opens")
	} else if w.place > 0 {
		row("Your place", strconv.FormatInt(w.place, 10))
		row("Your turn", "in about "+duration(w.in))
	}
	b.WriteString("</dl>")
}

// duration returns a time as people say it.
func duration(d time.Duration) string {
	count := func(n int64, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return strconv.FormatInt(n, 10) + " " + unit + "s"
	}
	switch s := max(filters.WholeSeconds(d), 1); {
	case s < 90:
		return count(s, "second")
	case s < 90*60:
		return count((s+30)/60, "minute")
	default:
		return count((s+1800)/3600, "hour")
	}
}
