package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	adminTimeout        = 10 * time.Second
	adminAnswerBytesMax = 64 << 20
)

// admin is a running gateway's admin address.
type admin struct{ address string }

func (a *admin) addFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&a.address, "admin", "127.0.0.1:9901", "admin address of the running gateway")
}

// call makes one request and returns the answer's body. An answer outside 2xx is an error with what the gateway says.
func (a *admin) call(ctx context.Context, method, path string, query url.Values, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	target := a.address
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	target = strings.TrimRight(target, "/") + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, payload)
	if err != nil {
		return nil, fmt.Errorf("%w: --admin is %q: %w", errUsage, a.address, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, adminAnswerBytesMax))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", a.address, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, reasonIn(answer))
	}
	return answer, nil
}

// reasonIn returns what a problem document says, or the body as it is.
func reasonIn(body []byte) string {
	var p struct{ Title, Detail string }
	if json.Unmarshal(body, &p) == nil && (p.Title != "" || p.Detail != "") {
		return strings.TrimPrefix(p.Title+": "+p.Detail, ": ")
	}
	return strings.TrimSpace(string(body))
}

// printJSON writes an answer, indented, with a newline.
func printJSON(w io.Writer, answer []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, answer, "", "  "); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	_, err := fmt.Fprintln(w, strings.TrimRight(b.String(), "\n"))
	return err
}
