// Package adminclient talks to the admin address of a running gateway, for the commands that
// operate one.
//
// Responses are returned as the gateway sends them, JSON, so that a newer gateway may show more
// than this package knows. An error response (RFC 9457) becomes an error with the gateway's own
// words.
//
// # Failure policy
//
// A call takes ten seconds at most and is made once. A response longer than 64 MiB is an error.
package adminclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/sluice-gateway/sluice/control/plan"
)

const (
	timeout          = 10 * time.Second
	responseBytesMax = 64 << 20
)

// ErrToken says that the gateway asks for another token than it was given.
var ErrToken = errors.New("adminclient: not the gateway's admin.token")

// ErrAddress says that an address is none.
var ErrAddress = errors.New("adminclient: invalid address")

// ErrNoAnswer says that nobody answers at the address.
var ErrNoAnswer = errors.New("no gateway answers")

// ErrClients says that the gateway's address for clients was asked.
var ErrClients = errors.New("adminclient: not the admin address of the gateway")

// ErrUnknown says that who answers does not know what it is asked for.
var ErrUnknown = errors.New("adminclient: the other side does not know the call")

// Client talks to one gateway. Its zero value needs an address; it is safe for concurrent use.
type Client struct {
	Address string       // host:port, or a base URL
	Token   string       // admin.token of the gateway; empty: none
	HTTP    *http.Client // nil: http.DefaultClient
}

// RecordName names one idempotency record: by Route, Principal and Key, or by ID. In a query, empty
// members match every record.
type RecordName struct {
	Route     string `json:"route"`
	Principal string `json:"principal"`
	Key       string `json:"key"`
	ID        string `json:"id,omitempty"`
	Force     bool   `json:"force,omitempty"` // also a record that is not unknown, or is damaged
}

// Resolution settles a record whose outcome is unknown.
type Resolution struct {
	RecordName
	As     string `json:"as"` // answered or free
	Status int    `json:"status,omitempty"`
	Body   string `json:"body,omitempty"`
}

// Resolve settles a record.
func (c *Client) Resolve(ctx context.Context, r Resolution) (body []byte, err error) {
	return c.call(ctx, http.MethodPost, "/api/idempotency/resolve", r)
}

// Forget removes a record.
func (c *Client) Forget(ctx context.Context, name RecordName) (body []byte, err error) {
	return c.call(ctx, http.MethodPost, "/api/idempotency/forget", name)
}

// RetryTransactions has the coordinator call at once what it would call again later.
func (c *Client) RetryTransactions(ctx context.Context) (body []byte, err error) {
	return c.call(ctx, http.MethodPost, "/api/transactions/retry", struct{}{})
}

// ResolveStep settles a step that is called in vain: as is done or refused.
func (c *Client) ResolveStep(ctx context.Context, id, step, as string) (body []byte, err error) {
	return c.call(ctx, http.MethodPost, "/api/transactions/"+url.PathEscape(id)+"/resolve",
		map[string]string{"step": step, "as": as})
}

// CancelTransaction has a transaction rolled back, where that is sound.
func (c *Client) CancelTransaction(ctx context.Context, id string) (body []byte, err error) {
	return c.call(ctx, http.MethodPost, "/api/transactions/"+url.PathEscape(id)+"/cancel", nil)
}

// Transaction returns one transaction with its steps.
func (c *Client) Transaction(ctx context.Context, id string) (body []byte, err error) {
	return c.call(ctx, http.MethodGet, "/api/transactions/"+url.PathEscape(id), nil)
}

// Breakers returns how the breakers stand.
func (c *Client) Breakers(ctx context.Context) (body []byte, err error) {
	return c.call(ctx, http.MethodGet, "/api/breakers", nil)
}

// ForceBreaker has the breaker of a service open or closed; auto has it decide by itself again.
func (c *Client) ForceBreaker(ctx context.Context, service, state string) (body []byte, err error) {
	return c.call(ctx, http.MethodPost, "/api/breakers/"+url.PathEscape(service), map[string]string{"state": state})
}

// Status returns how the gateway stands.
func (c *Client) Status(ctx context.Context) (body []byte, err error) {
	return c.call(ctx, http.MethodGet, "/api/status", nil)
}

// Config returns the configuration in force, its secrets hidden.
func (c *Client) Config(ctx context.Context) (settings map[string]any, err error) {
	body, err := c.call(ctx, http.MethodGet, "/api/config", nil)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&settings); err != nil {
		return nil, fmt.Errorf("adminclient: response of %s: %w", c.Address, err)
	}
	return settings, nil
}

// CheckConfig asks what would become of a configuration, which is not taken. The error wraps
// [ErrUnknown] for a gateway that cannot tell.
func (c *Client) CheckConfig(ctx context.Context, documents []plan.Document) (check plan.Check, err error) {
	body, err := c.call(ctx, http.MethodPost, "/api/config/check", plan.CheckRequest{Files: documents})
	if err != nil {
		return plan.Check{}, err
	}
	if err := json.Unmarshal(body, &check); err != nil {
		return plan.Check{}, fmt.Errorf("adminclient: response of %s: %w", c.Address, err)
	}
	return check, nil
}

// call makes one request and returns the response's body. A status outside of 2xx is an error.
func (c *Client) call(ctx context.Context, method, target string, in any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var payload io.Reader // a nil *bytes.Reader would be a body
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(b)
	}
	base := c.Address
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(base, "/")+target, payload)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrAddress, c.Address, err)
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // it names the whole URL
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrNoAnswer, c.Address, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, responseBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("adminclient: reading the response of %s: %w", c.Address, err)
	}
	if len(body) > responseBytesMax {
		return nil, fmt.Errorf("adminclient: the response of %s is longer than %d bytes", c.Address, responseBytesMax)
	}
	path, _, _ := strings.Cut(target, "?")
	if resp.StatusCode/100 == 2 && resp.Header.Get("Sluice-Request-Id") != "" { // a service took the request
		return nil, fmt.Errorf("%w: %s %s: %s", ErrClients, method, path, resp.Status)
	}
	if resp.StatusCode/100 != 2 {
		err := fmt.Errorf("%s %s: %s", method, path, statusText(resp, body))
		if resp.StatusCode == http.StatusUnauthorized {
			err = fmt.Errorf("%w: %w", ErrToken, err)
		}
		if resp.Header.Get("Sluice-Request-Id") != "" {
			return nil, fmt.Errorf("%w: %w", ErrClients, err)
		}
		if isUnknown(resp) {
			err = fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		return nil, err
	}
	return body, nil
}

// isUnknown reports whether a server says that it does not know a call. A record or a service that is not there is a
// 404 too, with a problem document.
func isUnknown(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	case http.StatusNotFound:
		return !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json")
	}
	return false
}

// statusText returns the status of an error response and, behind it, what its body adds: title and detail of a
// problem document, or the body as it is. What says nothing more than the status is left out.
func statusText(resp *http.Response, body []byte) string {
	var p struct{ Title, Detail string }
	parts := []string{resp.Status}
	if json.Unmarshal(body, &p) != nil || p.Title == "" && p.Detail == "" {
		p.Title, p.Detail = string(body), ""
	}
	for _, part := range [...]string{p.Title, p.Detail} {
		part = printable(part)
		same := func(s string) bool { return strings.EqualFold(s, part) }
		if part != "" && !same(http.StatusText(resp.StatusCode)) && !slices.ContainsFunc(parts, same) {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// shownMax is how many bytes of a text from the other side are shown: it may be no gateway, and its response a page.
const shownMax = 500

// printable makes a text fit for one line of a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > shownMax {
		s = strings.ToValidUTF8(s[:shownMax], "") + " …"
	}
	return s
}
