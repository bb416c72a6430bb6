package gateway

import (
	"log/slog"
	"syscall"
)

// descriptors is how the open files of the process are shared out, so that no use of them can take
// what another needs: clients that fill all connections leave the services' connections alone, and
// both the operators' address.
type descriptors struct {
	clients   int   // connections of clients
	internal  int   // connections to the admin address and its like, each
	branches  int   // connections of the coordinator
	pipes     int   // that long bodies are spliced through; each has two
	upstreams int64 // connections to services
}

// What is kept for what is not counted: listeners, stores, logs, the coordinator. Of few descriptors
// the shares are smaller.
const (
	descriptorsKept = 64
	internalMax     = 64
	branchesMax     = 256
	pipesMax        = 128
	descriptorsMost = 1 << 30 // what a limit that is none stands for
)

// shareDescriptors shares out a number of open files. Clients get as many connections as is
// configured, but at most half, since the request on each may need one to a service.
func shareDescriptors(files uint64, configured int) descriptors {
	limit := int(min(files, descriptorsMost))
	d := descriptors{
		internal: min(internalMax, limit/16), branches: min(branchesMax, limit/16), pipes: min(pipesMax, limit/64),
	}
	left := limit - min(descriptorsKept, limit/4) - 2*d.internal - d.branches - 2*d.pipes // internal: admin and probes
	d.clients = max(min(configured, left/2), 1)
	d.upstreams = int64(max(left-d.clients, 1))
	return d
}

// processDescriptors shares out those that the process may open, and says when they are too few.
func processDescriptors(configured int, logger *slog.Logger) descriptors {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = descriptorsMost
	}
	d := shareDescriptors(uint64(limit.Cur), configured)
	if d.clients < configured {
		logger.Warn("fewer connections than configured are taken: the limit of open files is too low",
			"listen.maxConnections", configured, "open_files", limit.Cur, "connections", d.clients,
			"to_services", d.upstreams)
	}
	return d
}
