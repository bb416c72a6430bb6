// Package xds is the control plane: it compiles a configuration to the resources of gateways and of
// Envoys, and serves them over ADS (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol),
// delta and state of the world, with go-control-plane's caches and servers.
//
// # What a node is given
//
// A node whose user_agent_name is "sluice" gets the native dialect: the whole configuration as one
// resource (package nativedialect), and the endpoints of services that are discovered. Any other
// node gets the Envoy dialect: listeners, routes, clusters and endpoints (package envoydialect).
// The two are never mixed in one snapshot. The version of a type is a hash of its resources, of the
// native configuration that of the document, so the same files have the same versions at every
// replica and after every restart, and a node that reconnects is sent nothing that it has.
//
// # How a change travels
//
//	release.go   a document, compiled to both dialects
//	rollout      which node is offered which version: the first nodes, a canary, all, or back
//	publish.go   the one goroutine that sets snapshots: in the order of the decisions
//	stream.go    each message of a stream passes here: who it is, ACK, NACK
//	session.go   what is known of a stream
//
// A document that does not load, that a gateway in this process would refuse ([Options].Check), or
// that does not compile reaches nobody: the last good one stays, and the fault is logged, counted
// and shown. What gets past that reaches one node of each dialect first. A NACK takes it back from
// all nodes; see package rollout for the rules, and for what a canary adds. What a
// source of endpoints finds is no part of a release: it goes at once to all nodes whose release has the
// source, and a NACK of it is shown and changes nothing. The sources of all releases are watched, so
// that nodes which have not got a change keep what their own sources find.
//
// # Identity
//
// With control.listen.clientCA a node shows a certificate, and control.nodes says which node it may
// be (identity.go); the id in a request is never trusted alone. Two certificates are never the same
// node at one time. Without certificates the address is a loopback one, and any id is taken. A
// document with a secret written out is sent over mTLS only: other streams of gateways are refused.
//
// # Replicas
//
// Each replica decides for itself, from the files and from what its own nodes say; there is no
// leader and no store. Promised: the same files have the same versions everywhere; the order in
// which nodes are tried is the same; a node that moves to another replica with the same decision is
// sent nothing. Not promised: that a version which one replica has taken back is not tried by
// another, since it learns so from its own nodes; and that a canary counts over all replicas: each
// takes its share of its own nodes. After a restart nothing is known to be stable until it has
// proved itself again, so nodes with another version keep theirs meanwhile.
//
// # Bounds
//
// A response has at most [MessageBytesMax], a request 4 MiB; 10,000 streams at one time, 32 types a
// stream, 4 MiB of names subscribed to. The resources are shared by all nodes; a node costs its
// connection (about 50 KiB), a record, and while it is sent something one copy of that. A client
// that does not take a response within 30 s, or sends no request within 10 s, is cut off; one that
// is gone without a word is noticed by keepalive within a minute. No client holds up others: each
// stream has goroutines and room for its responses of its own.
//
// # Failure policy
//
// Files broken: the last good configuration stays. Control plane gone: nodes keep what they have;
// versions being hashes, a control plane that comes back sends nothing that has not changed.
// Certificates broken: the configuration is refused and the old ones stay.
package xds
