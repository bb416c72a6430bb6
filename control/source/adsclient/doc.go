// Package adsclient gets the configuration and the endpoints of a gateway from a control plane: a client of the
// aggregated discovery service (ADS) in its delta variant, on the generated stubs.
//
// # Protocol
//
// https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol, "Incremental xDS". One stream carries two types:
// one resource of ECDS that is the whole configuration, and EDS for the services that are subscribed to. Each response
// is answered once, by an ACK or by a NACK with the reason; what was acknowledged is what a new stream begins with
// (initial_resource_versions), so that a control plane sends nothing that is there already. What it says is removed
// stays as it is: a gateway without a configuration serves nobody.
//
// [Client.Updates] hands out one update at a time, and what took it answers it with [Update.Ack] or [Update.Nack]. An
// answer to an update of a stream that has ended is noted and not sent.
//
// # Several control planes
//
// They are called in the order in which they are written, and the first that can be talked to is kept until it is
// lost; one that lasted is called once more then, before the next one. After all have failed there is a pause that
// doubles, up to 30 s, each between half and all of it by chance (AWS Architecture Blog, Exponential Backoff And
// Jitter); a stream that lasted ends it. A control plane that has sent nothing within 15 s to a gateway
// that has no configuration is left for the next one.
//
// # Security
//
// Secrets may be in a configuration, so without certificates only an address of this machine is connected to, whatever
// its name resolves to. With them it is mTLS, and the files are read again for each connection.
//
// # Bounds
//
// A message has at most 20 MiB; one is held at a time, and gRPC's window of the next. A control plane that sends and
// does not read is left when 64 answers wait for it. Nothing that it sends or leaves out blocks the gateway.
package adsclient
