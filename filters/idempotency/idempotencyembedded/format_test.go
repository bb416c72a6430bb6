package idempotencyembedded

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// fixtureLog is a log as the first version of this format wrote it: a secret, five claims with a quota,
// and how four of them ended. Its times are those of newClock.
const fixtureLog = "" +
	"c2x1aWNlbGcBAAAAAQAAAAEAAAAAAAAAElWwWAAAAAAAAAAAAAAAAGRRDx0AAAAAAAAAAAAAAAAAAAAAAAAAAHNsdWlj" +
	"ZWxnAQAAAAEAAAABAAAAAAAAABJVsFgAAAAAAAAAAAAAAABkUQ8dAAAAAAAAAAAAAAAAAAAAAAAAAAD1U2zhNAAAAAQB" +
	"CAAAAAAAAAAAAErZf9QEy4DkYnJhbmNoZXPdCxvT/zlxCWS1ChpIsD3O9VNs4X8AAAABAwkAABB1B1Zf1xhB06oNO1Wg" +
	"OGluLWZsaWdodAIBAgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABQIJaW4tZmxpZ2h0AXIBcAFrAIDuiasN" +
	"APjuiasNALD3iasNANCviqsNAICAxYvG0QEAk/RMEfVTbOF9AAAAAQMIAAAQdQdWX9cYy+jvbqyr9sVhbnN3ZXJlZAIB" +
	"AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABQIIYW5zd2VyZWQBcgFwAWsAgO6Jqw0A+O6Jqw0AsPeJqw0A" +
	"0K+Kqw0AgIDFi8bRAQDwBCBV9VNs4XsAAAABAwcAABB1B1Zf1xgBbowcOTRWAXVua25vd24CAQIAAAAAAAAAAAAAAAAA" +
	"AAAAAAAAAAAAAAAAAAAAAAAAAAUCB3Vua25vd24BcgFwAWsAgO6Jqw0A+O6Jqw0AsPeJqw0A0K+Kqw0AgIDFi8bRAQA4" +
	"nC0n9VNs4XcAAAABAwUAABB1B1Zf1xgz+DBfBvPn92ZyZWVkAgECAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" +
	"AAAFAgVmcmVlZAFyAXABawCA7omrDQD47omrDQCw94mrDQDQr4qrDQCAgMWLxtEBAFSwdIH1U2zhfwAAAAEDCQAAEHUH" +
	"Vl/XGHDOoRHwKMTdZGVsZWdhdGVkAgECAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAFAglkZWxlZ2F0ZWQB" +
	"cgFwAWsAgO6Jqw0A+O6Jqw0AsPeJqw0A0K+Kqw0AgIDFi8bRAQB+1OHN9VNs4X8AAAACAwkAAKCrVMpe1xgyP5q72yJq" +
	"g2RlbGVnYXRlZAICAgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABQIJZGVsZWdhdGVkAXIBcAFrAIDuiasN" +
	"APjuiasNALD3iasNAKCmiqsNAICAxYvG0QEALjQgM/VTbOGFAAAAAgMIAACgq1TKXtcYyHxnXZO6wcxhbnN3ZXJlZAID" +
	"AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABQIIYW5zd2VyZWQBcgFwAWsAgO6Jqw0A+O6Jqw0AsPeJqw0A" +
	"oKaKqw0AgIDFi8bRAQhhbnN3ZXJlZKvQSgz1U2zhewAAAAIDBwAAoKtUyl7XGP8UDy0tYStudW5rbm93bgIEAgAAAAAA" +
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABQIHdW5rbm93bgFyAXABawCA7omrDQD47omrDQCw94mrDQCgpoqrDQCA" +
	"gMWLxtEBAPLIRpj1U2zhIQAAAAMBBQAAEHUHVl/XGG0fPLNtHzyzZnJlZWT1U2zhHAAAAAUBAAAAAAAAAAAAALq10ne6" +
	"tdJ3"

func fixture(t testing.TB) []byte {
	t.Helper()
	log, err := base64.StdEncoding.DecodeString(fixtureLog)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// TestFolderOfTheFirstVersion: a folder that was written before opens, and everything in it is there.
func TestFolderOfTheFirstVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "00000001.log"), fixture(t), 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir, Options{Now: newClock().now, SweepEvery: time.Hour})
	defer mustClose(t, s)
	for id, want := range map[string]idempotency.State{
		"in-flight": idempotency.Unknown, "answered": idempotency.Answered, "unknown": idempotency.Unknown,
		"freed": 0, "delegated": idempotency.Delegated,
	} {
		if got := state(t, s, id); got != want {
			t.Errorf("%s reads as %v, want %v", id, got, want)
		}
	}
	rec, ok, err := s.Get(t.Context(), "answered")
	now := newClock().now()
	if err != nil || !ok || rec.Token != 5 || rec.Route != "r" || rec.Principal != "p" || rec.ClientKey != "k" ||
		!rec.Counted || !rec.Created.Equal(now) || rec.TTL != time.Hour || !rec.Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("the record is %+v, %v, %v", rec, ok, err)
	}
	b, err := s.Secret(t.Context(), "branches", 16)
	if err != nil || hex.EncodeToString(b) != "dd0b1bd3ff39710964b50a1a48b03dce" {
		t.Errorf("the secret is %x, %v", b, err)
	}
	if st := s.Stats(); st.Records != 4 || st.DamagedBytes != 0 || st.TornBytes != 0 || st.LiveBytes == 0 {
		t.Errorf("figures %+v", st)
	}
}
