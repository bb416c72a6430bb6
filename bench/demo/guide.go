package demo

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
)

// guide is what the demo prints when it is ready.
type guide struct {
	Data    string
	Gateway string // host:port as bound
	Admin   string // host:port as bound
	Run     string // makes the keys of this run new, also in a folder that was used before
	addresses
}

// newRunID returns four random hex digits.
func newRunID() string {
	b := make([]byte, 2)
	rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}

// try is one line to paste into a shell, with what it shows.
type try struct{ shows, line string }

// dialable returns the address as a client on this machine reaches it.
func dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// tries returns the lines in the order in which they work.
func (g *guide) tries() []try {
	base := "http://" + dialable(g.Gateway)
	checkout := func(flags, key string, amount int) string {
		return fmt.Sprintf(`curl %s %s/v1/checkouts -H 'X-User: ann' -H 'Idempotency-Key: demo-%s-%s' `+
			`-H 'Content-Type: application/json' -d '{"sku":"SKU-1","qty":2,"amount":%d}'`,
			flags, base, g.Run, key, amount)
	}
	const fair, other, refused = 1998, 1, 200_000 // cents; the shop's cards pay up to 1000.00
	stock := fmt.Sprintf(`curl -i %s/v1/stock/SKU-1`, base)
	return []try{
		{"a checkout: stock is reserved, an order made, the card charged, points given, a parcel sent",
			checkout("-i", "1", fair)},
		{"the same again, as a retry would send it: the response is replayed, nothing is done twice",
			checkout("-i", "1", fair)},
		{"the same key with another amount: 422, a key stands for one request", checkout("-i", "1", other)},
		{"the state of the checkout; its id is taken from the replayed response", fmt.Sprintf(
			`curl -i -H 'X-User: ann' "%s/v1/checkouts/$(%s | sed -n 's/.*"id": *"\([0-9a-z]*\)".*/\1/p')"`, base,
			checkout("-s", "1", fair))},
		{"the stock now", stock + ` -H 'X-User: ann'`},
		{"a card that is refused: 409, and what the steps before had done is undone", checkout("-i", "2", refused)},
		{"the stock again: what the refused checkout had reserved is back", stock + ` -H 'X-User: ann'`},
		{"eight looks in a row: 429 once the burst of five is spent",
			`for i in 1 2 3 4 5 6 7 8; do ` + stock + ` -s -H 'X-User: bob-` + g.Run + `'; echo; done`},
	}
}

// printGuide writes the guide; ready stands on a line of its own at the end.
func printGuide(w io.Writer, g guide) error {
	var b strings.Builder
	place := func(name, where string) { fmt.Fprintf(&b, "%-12s %s\n", name, where) }
	place("gateway", "http://"+dialable(g.Gateway))
	place("admin", "http://"+g.Admin+"  (/metrics, /api/status, /api/idempotency, /api/transactions)")
	place("coordinator", "http://"+g.Coordinator)
	names := make([]string, 0, len(g.Services))
	for name := range g.Services {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		place(name, "http://"+g.Services[name])
	}
	place("data", g.Data+"  (sluice.yaml is the configuration)")
	b.WriteString("\nTry, in another terminal:\n\n")
	for _, t := range g.tries() {
		fmt.Fprintf(&b, "# %s\n%s\n\n", t.shows, t.line)
	}
	b.WriteString("ready\n")
	_, err := io.WriteString(w, b.String())
	return err
}
