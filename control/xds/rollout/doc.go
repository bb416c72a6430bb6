// Package rollout decides which version of the configuration each node of a fleet is offered. It is
// pure: it knows nodes by number, versions by name, and time as an argument. [control/xds] tells it
// what happens and asks it for targets.
//
// # Stages
//
// A version that is offered is a candidate until it has proved itself. Nodes are of kinds (gateways,
// Envoys), which get different things of one version, so each kind is tried by itself:
//
//	first    one node of the kind, until it acknowledges
//	share    with a canary: that share of the kind's nodes, for the time that is set from the first ACK on
//	all      everybody
//
// The version becomes the stable one when, without a canary, every node has acknowledged it or has
// been silent for [silentAfter]; with one, when the time is over. Which nodes come first follows from
// a hash of their ids, so that the replicas of a control plane choose alike without a leader.
//
// A NACK of a candidate takes it back from all nodes: they return to the stable version. So does an
// error rate of the canary's nodes that is above that of the others by more than the setting and by
// more than chance: three standard deviations of a Poisson count, since it is looked at again and
// again. A NACK of the stable version, by a node that came later, is that node's own trouble and
// changes nothing for the others; neither does a NACK of a candidate by a node that does not have the
// stable version, so that one broken node does not keep every change from a fleet.
//
// # Nodes that say nothing
//
// A node that does not acknowledge within [silentAfter] does not hold up the others: it no longer
// counts as tried, and others are tried in its place, at most as many at once as have been silent,
// so an offer that nobody acknowledges spreads slowly, and is never stable.
//
// # After a restart
//
// Nothing is stored. The stable version is unknown until a candidate has proved itself, so there is
// nothing to return to: nodes that come with a version keep it, whether or not it is known here. (An
// Envoy that refuses the first change after a restart in part keeps what it took of the rest: what it
// had before is known to nobody here. The next good change mends that.) A
// candidate that was under way when the next one came is what its nodes return to, acknowledged or
// not: an Envoy takes each type of resource by itself, and else would keep the routes of a version
// whose listeners it refused. A node that has none is offered that one too; only where there is none
// it is offered a version that was taken back.
//
// # Memory bound
//
// One record of about 100 bytes a connected node.
package rollout
