// Package source is where a gateway's configuration comes from: a file or a folder, and later a
// control plane. To the gateway they are the same: a [Source] gives it one configuration to start
// with and each later one, and is told which were refused, and why.
package source

import (
	"context"

	"github.com/sluice-gateway/sluice/control/config"
)

// Source gives configurations.
type Source interface {
	// First returns the configuration to start with. The error says why there is none.
	First(ctx context.Context) (*config.Config, error)
	// Watch gives every later configuration to the sink, one at a time, until ctx ends. It begins
	// with what has changed since First.
	Watch(ctx context.Context, sink Sink) error
}

// Discoverer is a [Source] that also finds the endpoints of services (services.*.endpointsFrom).
type Discoverer interface {
	// Discovered returns the endpoints that are known when First has returned, by service. Later ones go to
	// [Sink.SetEndpoints].
	Discovered() map[string][]config.Endpoint
}

// Sink takes configurations.
type Sink interface {
	// Apply puts a configuration in force as a whole, or returns why it was refused; the one before
	// it stays in force then. A source that has somebody to tell hands the error on.
	Apply(cfg *config.Config) error
	// Refuse says that the source has something new that is no configuration, and why. What is in
	// force stays in force.
	Refuse(err error)
	// SetEndpoints has a service for which no endpoints are written go on with these, which may be
	// none. It does not wait for requests, and may come before the configuration that has the service.
	SetEndpoints(service string, endpoints []config.Endpoint)
}

// Composer is a [Source] that reads further documents as it would read its own, without giving them to
// anybody: to say what would become of them.
type Composer interface {
	// Compose returns the configuration that the documents make here: variables, files and relative
	// paths are those of this machine. The error is a [*config.FaultsError] for documents with faults.
	Compose(list []config.File) (*config.Config, error)
}
