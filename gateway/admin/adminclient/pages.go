package adminclient

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// pageMax is how many rows are asked for at a time; a gateway may give fewer.
const pageMax = 1000

// Pages are the pages of a listing, each its rows as the gateway sends them. An error ends them.
type Pages = iter.Seq2[[]json.RawMessage, error]

// Records returns the records that match, up to limit of them; 0: all. An empty state is any.
func (c *Client) Records(ctx context.Context, name RecordName, state string, limit int) Pages {
	return c.pages(ctx, "/api/idempotency", "records", limit, map[string]string{
		"route": name.Route, "principal": name.Principal, "key": name.Key, "state": state,
	})
}

// Transactions returns the transactions that the gateway knows, up to limit of them; 0: all. An empty state or route
// is any.
func (c *Client) Transactions(ctx context.Context, route, state string, limit int) Pages {
	return c.pages(ctx, "/api/transactions", "transactions", limit, map[string]string{"route": route, "state": state})
}

func (c *Client) pages(ctx context.Context, path, member string, limit int, parameters map[string]string) Pages {
	query := url.Values{}
	for name, value := range parameters {
		if value != "" {
			query.Set(name, value)
		}
	}
	return func(yield func([]json.RawMessage, error) bool) {
		for left := limit; ; {
			size := pageMax
			if limit > 0 {
				size = min(size, left)
			}
			query.Set("limit", strconv.Itoa(size))
			rows, next, err := c.page(ctx, path+"?"+query.Encode(), member)
			if err != nil {
				yield(nil, err)
				return
			}
			if limit > 0 {
				rows = rows[:min(len(rows), left)]
				left -= len(rows)
			}
			if len(rows) > 0 && !yield(rows, nil) || next == "" || limit > 0 && left == 0 {
				return
			}
			query.Set("after", next)
		}
	}
}

// page returns the rows of one page, and where the next one begins; a gateway of before there were pages has none.
func (c *Client) page(ctx context.Context, target, member string) (rows []json.RawMessage, next string, err error) {
	body, err := c.call(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, "", err
	}
	var members map[string]json.RawMessage
	err = json.Unmarshal(body, &members)
	if err == nil {
		err = json.Unmarshal(members[member], &rows)
	}
	if err == nil && members["next"] != nil {
		err = json.Unmarshal(members["next"], &next)
	}
	if err != nil {
		return nil, "", fmt.Errorf("adminclient: response of %s: %w", c.Address, err)
	}
	return rows, next, nil
}
