package transaction

import (
	"context"
	"strings"
	"time"
)

// keepForHeader is the branch header by which a transaction tells sluice-dtm how long it is kept after its end
// (dtmembedded.KeepForHeader). DTM has no word for it, but keeps a transaction's branch headers.
const keepForHeader = "Sluice-Keep-For"

// keepFor returns the branch headers of a transaction; nil without a time of its own.
func (b *Bridge) keepFor(d time.Duration) map[string]string {
	if d <= 0 {
		return nil
	}
	if b.keepForAsked.CompareAndSwap(false, true) {
		b.background.Go(b.checkKeepFor)
	}
	return map[string]string{keepForHeader: d.String()}
}

// checkKeepFor says once when the coordinator does not know keepFor.
func (b *Bridge) checkKeepFor() {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	version, err := b.client.Version(ctx)
	if err != nil {
		b.keepForAsked.Store(false) // the next transaction asks again
		return
	}
	if !strings.Contains(version, "(embedded)") {
		b.logger.Warn("transaction: keepFor has no effect: only sluice-dtm with its embedded store keeps single transactions "+
			"for a time of their own; set --keep-for there", "coordinator", version)
	}
}
