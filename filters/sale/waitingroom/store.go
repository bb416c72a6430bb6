package waitingroom

import "context"

// Store keeps the lines of sales, each under the sale's name. It is safe for concurrent use.
type Store interface {
	// Exchange runs [Line.Exchange] on the line of the sale as one step, by the store's clock, within the store's own
	// time limit. After an error it may have been run or not. The store keeps nothing of the report.
	Exchange(ctx context.Context, sale string, r *Report) (Grant, error)
}
