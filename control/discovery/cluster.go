package discovery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sluice-gateway/sluice/control/config"
)

const (
	tokenMax    = 64 << 10 // bytes of a token's file
	caMax       = 1 << 20  // bytes of a file of authorities
	messageMax  = 300      // bytes of what an API server says to a refusal, as it is shown
	connectTime = 5 * time.Second
)

// clusterKey is where the API of a cluster is, and what is shown there.
type clusterKey struct{ api, token, ca string }

func keyOfCluster(k *config.EndpointsFromKubernetes) clusterKey {
	return clusterKey{strings.TrimRight(k.API, "/"), k.Token, k.CA}
}

// cluster sends requests to the API of a cluster. It is safe for concurrent use.
type cluster struct {
	key     clusterKey
	timeout time.Duration // until the head of a response

	mu     sync.Mutex
	client *http.Client
	ca     [sha256.Size]byte // of the authorities that the client was made with
}

func newCluster(key clusterKey, timeout time.Duration) *cluster {
	return &cluster{key: key, timeout: timeout}
}

// close closes idle connections; those in use close at their end.
func (c *cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
}

// get sends a request, and returns the response to one that succeeded. The caller closes its body.
func (c *cluster) get(ctx context.Context, target string) (*http.Response, error) {
	client, err := c.ready()
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.key.api+target, nil)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "sluice")
	if c.key.token != "" {
		token, err := c.bearer()
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close() // the response is given up
		return nil, c.refusal(resp)
	}
	return resp, nil
}

// ready returns a client with the authorities that are in the file now.
func (c *cluster) ready() (*http.Client, error) {
	var pem []byte
	if c.key.ca != "" {
		var err error
		if pem, err = readFile(c.key.ca, caMax); err != nil {
			return nil, fmt.Errorf("kubernetes: ca: %w", err)
		}
	}
	sum := sha256.Sum256(pem)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil && sum == c.ca {
		return c.client, nil
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.key.ca != "" {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kubernetes: ca: %s: it has no certificate in PEM", c.key.ca)
		}
	}
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
	c.client, c.ca = newClient(tlsConfig, c.timeout), sum
	return c.client, nil
}

// newClient returns a client that follows no redirect and uses no proxy: the token is for one server. A
// connection whose other side is gone is noticed within half a minute, by TCP or by HTTP/2's pings.
func newClient(c *tls.Config, timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: connectTime, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4,
	}}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: c, TLSHandshakeTimeout: connectTime,
			ForceAttemptHTTP2: true, ResponseHeaderTimeout: timeout, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		},
	}
}

// bearer reads the token. What is wrong with it is said without it.
func (c *cluster) bearer() (string, error) {
	data, err := readFile(c.key.token, tokenMax)
	if err != nil {
		return "", fmt.Errorf("kubernetes: token: %w", err)
	}
	token := string(bytes.TrimSpace(data))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= 0x20 || r >= 0x7f }) {
		return "", fmt.Errorf("kubernetes: token: %s: it does not have one line of visible characters", c.key.token)
	}
	return token, nil
}

// errGone says that a resourceVersion is too old, or newer than the server has: all has to be listed
// again, whatever the version.
var errGone = errors.New("kubernetes: the resource version is gone")

// refusal is an error by the status of a response.
func (c *cluster) refusal(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // the status says enough without it
	var said statusObject
	_ = json.Unmarshal(body, &said) // likewise
	err := said.err(resp.StatusCode)
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return fmt.Errorf("%w (the token of %q is not taken)", err, c.key.token)
	case http.StatusForbidden:
		return fmt.Errorf("%w (the account has to be allowed to list and watch endpointslices of discovery.k8s.io)",
			err)
	}
	return err
}

// statusObject is how the API tells of a failure.
type statusObject struct {
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Code    int    `json:"code"`
	Details struct {
		Causes []struct {
			Reason string `json:"reason"`
		} `json:"causes"`
	} `json:"details"`
}

// err returns the failure; status is that of the response.
func (s *statusObject) err(status int) error {
	said := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s.Message)
	if len(said) > messageMax {
		said = strings.ToValidUTF8(said[:messageMax], "") + " …"
	}
	tooNew := false
	for _, cause := range s.Details.Causes {
		tooNew = tooNew || cause.Reason == "ResourceVersionTooLarge"
	}
	if status == http.StatusGone || tooNew || s.Reason == "Expired" {
		return fmt.Errorf("%w: %d %s", errGone, status, said)
	}
	return fmt.Errorf("kubernetes: the API server says %s", strings.TrimSpace(fmt.Sprintf("%d %s %s",
		status, http.StatusText(status), said)))
}
