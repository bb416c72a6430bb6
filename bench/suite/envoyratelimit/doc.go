// Package envoyratelimit compares the rate-limit service of `sluice envoy` with the one that it can
// stand in for, github.com/envoyproxy/ratelimit: the same requests to both, as processes, on one
// Redis. It has tests only.
//
// [TestDifferential] sends both the same random requests and compares codes, limits, what is left
// and the time until the reset. [TestCPU] measures the processor time of each for the same calls.
//
// It is a module of its own, so that nothing that the other service is made of reaches the
// gateway's requirements, and no step of `make test`: to build that service takes some 45 s of
// processor time on a machine that has none of it yet, more than its two tests could tell that the
// gateway's own tests do not. Those have its integration cases with what it answers
// (gateway/envoy/ratelimitservice). `make oracle` builds everything and runs this.
//
// SLUICE in the environment names the gateway's program. redis-server has to be there. What is
// missing fails the tests, it never skips them. All traffic is on loopback.
package envoyratelimit
