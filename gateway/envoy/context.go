package envoy

import (
	"context"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// requestContext is the context of a request: it ends when Envoy ends the stream. Nothing reads the stream
// while the request is worked on, so whoever asks for the channel has it read from then on.
type requestContext struct {
	*message.Context
	request *Request
}

// Done implements [context.Context].
func (c *requestContext) Done() <-chan struct{} {
	c.request.watch()
	return c.Context.Done()
}

// AfterFunc is as [message.Context.AfterFunc].
func (c *requestContext) AfterFunc(f func()) (stop func() bool) {
	c.request.watch()
	return c.Context.AfterFunc(f)
}

// cancelKey is the key of the function by which a stream's handler ends its own waits.
type cancelKey struct{}

// cancellable is what each stream begins with. A handler has no other way to end a read of its own stream.
func cancellable(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	return context.WithValue(ctx, cancelKey{}, cancel) // the parent ends with the stream, which frees it
}
