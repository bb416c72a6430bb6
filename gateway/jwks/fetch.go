package jwks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	fetchLimit   = 5 * time.Second // of a whole fetch, with its redirects
	bodyBytesMax = 1 << 20
	headBytesMax = 64 << 10
	redirectsMax = 3
)

// NewTransport returns what key sets are fetched over. The server is verified by roots; nil: by the
// system's. A proxy that the environment names (HTTPS_PROXY) is used: it sees the host, not what is
// said.
func NewTransport(roots *x509.CertPool) http.RoundTripper {
	return &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: fetchLimit}).DialContext,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		// The next fetch is minutes away.
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: headBytesMax,
	}
}

// newClient returns a client that follows few redirects, and none that leaves https.
func newClient(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		switch {
		case r.URL.Scheme != "https":
			return fmt.Errorf("a redirect to %s://%s: only https is followed", r.URL.Scheme, r.URL.Host)
		case len(via) > redirectsMax:
			return fmt.Errorf("more than %d redirects", redirectsMax)
		}
		return nil
	}}
}

// fetch returns the body that is at the URL. The error does not name the URL.
func (k *Keys) fetch(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	body, err := k.get(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("jwks: no complete response within %s", fetchLimit)
	}
	if err != nil {
		return nil, fmt.Errorf("jwks: %w", err)
	}
	return body, nil
}

func (k *Keys) get(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, withoutURL(err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", "sluice")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the status is %d, not 200", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("the body broke off: %w", err)
	}
	if len(body) > bodyBytesMax {
		return nil, fmt.Errorf("the body is longer than %d bytes", bodyBytesMax)
	}
	return body, nil
}

// withoutURL strips an error of the URL, whose query may have a secret in it.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// Shown returns a URL as operators see it: without its query.
func Shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "a URL that cannot be read"
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.Redacted()
}
