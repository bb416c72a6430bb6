package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/jsonscan"
	"github.com/sluice-gateway/sluice/filters/sale/stockfrom"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/router"
)

// unitsBytesMax bounds the response that has the units of an item.
const unitsBytesMax = 64 << 10

// unitsSource asks a service how many units of an item it has, as branch calls go there.
type unitsSource struct {
	rt          *route
	path, query string // with the mark of the item
	field       []string
	limit       time.Duration
}

// unitsOf implements [policy.UnitsOf].
func (b *builder) unitsOf(from *config.SaleStockFrom) (stockfrom.Source, error) {
	path, query, _ := strings.Cut(from.Path, "?")
	plain := strings.ReplaceAll(path, config.SaleItemMark, "item")
	if canonical, err := router.Canonical(plain); err != nil || canonical != plain {
		return nil, fmt.Errorf("gateway: stockFrom.path: %q is not a canonical path", from.Path)
	}
	return &unitsSource{
		rt: b.engine.branches[from.Service], path: path, query: query, field: strings.Split(from.Field, "."),
		limit: policy.LongestCall(b.Config.Services[from.Service]),
	}, nil
}

// Units implements [stockfrom.Source].
func (s *unitsSource) Units(ctx context.Context, item string) (int, error) {
	if s.rt == nil {
		return 0, errors.New("gateway: the service of the stock has no branch")
	}
	path := strings.ReplaceAll(s.path, config.SaleItemMark, router.EscapeSegment(item))
	if canonical, err := router.Canonical(path); err != nil || canonical != path {
		return 0, stockfrom.ErrNoItem // a name that is a dot segment: no path can have it
	}
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	x := new(filters.Exchange)
	x.Begin(ctx, nil)
	x.Method, x.Scheme, x.Version, x.Received = "GET", "http", "1.1", time.Now()
	x.Host = s.rt.target.(*forward).service.Name()
	x.Path, x.RawQuery = path, strings.ReplaceAll(s.query, config.SaleItemMark, url.QueryEscape(item))
	x.Header.Add("Accept", "application/json")
	response := recorder{most: unitsBytesMax}
	s.rt.serve(x, &whole{message.Message{}}, &response)
	switch {
	case x.Response.Local:
		return 0, fmt.Errorf("gateway: %s was not asked: %s", s.rt.name, x.Response.Reason)
	case response.aborted || response.cut:
		return 0, fmt.Errorf("gateway: the response is not whole, or longer than %d bytes", unitsBytesMax)
	case response.status == 404 || response.status == 410:
		return 0, stockfrom.ErrNoItem
	case response.status != 200:
		return 0, fmt.Errorf("gateway: the service answers %d", response.status)
	}
	return unitsIn(response.body, s.field)
}

// unitsIn reads the member of the response.
func unitsIn(body []byte, field []string) (int, error) {
	var d jsonscan.Document
	d.Scan(body, jsonscan.NewMembers(field))
	v, ok, err := d.Member(field)
	if err != nil {
		return 0, fmt.Errorf("gateway: the response: %w", err)
	}
	name := strings.Join(field, ".")
	if !ok {
		return 0, fmt.Errorf("gateway: the response has no %s", name)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(v)))
	if err != nil {
		return 0, fmt.Errorf("gateway: %s is no whole number", name)
	}
	return n, nil
}
