// Package discovery finds the endpoints of services while they run: in a file, in DNS, or by the
// EndpointSlices of a Kubernetes cluster. A gateway that has its configuration from a file uses it
// for itself, a control plane for its gateways.
//
// A [Watcher] watches the sources of all services of a configuration (services.*.endpointsFrom) and
// tells of each list of endpoints that differs from the one before ([Watcher.Deliver]).
// [Watcher.Configure] follows a configuration: sources that stay the same go on undisturbed. Where a
// configuration may yet be refused, [Watcher.Begin] asks its new sources beforehand, and nothing
// comes of it until [Change.Commit].
//
// # Sources
//
// A file is looked at twice a second. What changed is taken when a second look finds the same, so
// that no half-written file is. It has one endpoint a line, or is a list in YAML or JSON.
//
// A name in DNS is looked up as often as services.*.dns says, up to a tenth sooner so that gateways
// are not in step. A and AAAA records both count. Of SRV records (RFC 2782) those of the lowest
// priority count that have an address; weights are left out. A target whose lookup fails keeps the
// addresses that it had.
//
// Of a Kubernetes service the EndpointSlices (discovery.k8s.io/v1) are listed and then watched over
// HTTP, as the API's concepts describe it (kubernetes.io/docs/reference/using-api/api-concepts,
// "Efficient detection of changes"): the watch begins at the list's resourceVersion, bookmarks move
// that on, and 410 Gone has everything listed again. The first list may come from the server's cache
// (resourceVersion=0), one behind 410 may not. The server is asked to end each watch after four to
// six minutes; the next goes on where it ended. All slices of the service are merged. An endpoint is
// used that is ready, where ready is not written too, and not terminating; of its addresses the first
// is, and of a pod with two families the IPv4 one, so that a pod is one endpoint. Zones, nodes and hints
// are not read. A port is found by its name among the ports of a slice, or by its number, which is that
// of the endpoints and not that of the service. The token and the authorities are read at each
// connection, since Kubernetes changes both in place. Redirects are not followed: a token does not
// leave for another host.
//
// # Failure policy
//
// A source that is gone, is slow, or says what cannot be right changes nothing: the last endpoints
// stay, for as long as it takes. A source takes effect as a whole: one bad line of a file keeps all
// of it out. Each failure is in [Status] until the source answers again, and in the log once and then
// every minute. The API is asked again after half a second, twice that, and so on up to half a minute,
// each half as long or half as long again by chance.
//
// An empty list is taken where the source says so: a list of the API without an endpoint that is ready,
// an SRV record with the target ".", a file with no line but comments or with []. A name that does not
// exist, or that has no address, is empty when three lookups in a row say so: one such response also
// comes from resolvers that have just lost their zone. A file of no bytes is one that is being written.
// A service without endpoints refuses requests as one whose names have no address.
//
// Where a reload has a service's endpoints come from elsewhere, those that it has stay until the new
// source answers, unless [Options].Apart is set: a control plane has them for other nodes. A service that
// never had an answer has no endpoints; [Watcher.Await] waits for them.
//
// # Invariants
//
//   - Updates are told by the goroutine that runs [Watcher.Deliver], without a lock, in no more than ten
//     rounds a second: what changes meanwhile is told together, and the last list of each service always is.
//   - A list is sorted, and names each endpoint once.
//   - Neither a token nor a key is part of an error, a status or a log line.
//
// # Memory bound
//
// A service has at most 5,000 endpoints; those that come last in order are left out, and the status
// says so. A file has at most 1 MiB, a list of the API 64 MiB while it is read, one event 8 MiB. Some
// 300 bytes stay for each endpoint.
package discovery
