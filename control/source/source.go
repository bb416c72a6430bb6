// Package source is where a gateway's configuration comes from: a file or a folder, or a control
// plane. To the gateway they are the same: a [Source] gives it one configuration to start
// with and each later one, and is told which were refused, and why.
package source

import (
	"context"
	"errors"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/discovery"
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

// Finder is a [Discoverer] that asks where the endpoints are itself.
type Finder interface {
	// Finding returns how the sources of endpoints stand. It is safe for concurrent use once First has returned.
	Finding() []discovery.Status
}

// Waiting is a [Source] whose first configuration may be long in coming, and may not be one that can be used.
type Waiting interface {
	// Own returns the configuration of a gateway that has none yet: what it has of its own.
	Own() (*config.Config, error)
	// Refused says why what First has returned last was not put in force. First returns another one then.
	Refused(err error)
}

// Fleet is a [Source] that is a control plane.
type Fleet interface {
	// Status returns how the gateway stands with it. It is safe for concurrent use.
	Status() *ControlStatus
	// Report has it told how many requests there were since the process began, and how many of them
	// failed: a change that is tried on some gateways is judged by that.
	Report(loads func() (requests, failed uint64))
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

// filesOf returns the files that a configuration with faults refers to, as far as they were read.
func filesOf(err error) fileList {
	if faults, ok := errors.AsType[*config.FaultsError](err); ok && faults.Partial() != nil {
		return fileList(faults.Partial().Files())
	}
	return nil
}

// Composer is a [Source] that reads further documents as it would read its own, without giving them to
// anybody: to say what would become of them.
type Composer interface {
	// Compose returns the configuration that the documents make here: variables, files and relative
	// paths are those of this machine. The error is a [*config.FaultsError] for documents with faults.
	Compose(list []config.File) (*config.Config, error)
}
