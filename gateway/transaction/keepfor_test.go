package transaction

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient"
)

// A coordinator that keeps no single transaction longer than others is named once; a setting is never ignored in
// silence.
func TestKeepFor(t *testing.T) {
	for version, told := range map[string]bool{
		"sluice-dtm/1.19.0 (embedded)": false, "sluice-dtm/1.19.0": true, "": true,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, fmt.Sprintf(`{"version":%q}`, version))
		}))
		defer server.Close()
		d := &fixture{known: map[string]string{}}
		d.openWith(t, sagaclient.Options{Endpoints: []string{server.URL}})
		var log bytes.Buffer
		d.Bridge.logger = slog.New(slog.NewTextHandler(&log, nil))
		if d.Bridge.keepFor(0) != nil {
			t.Error("without a time of its own there is a header")
		}
		for range 3 {
			if h := d.Bridge.keepFor(2 * time.Hour); h[keepForHeader] != "2h0m0s" {
				t.Errorf("headers %v", h)
			}
		}
		if err := d.Bridge.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "keepFor has no effect"); (n == 1) != told || n > 1 {
			t.Errorf("version %q: told %d times: %s", version, n, log.String())
		}
	}
}
