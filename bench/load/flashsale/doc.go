// Package flashsale is the load test of a flash sale: `sluice bench flash-sale`.
//
// # What it runs
//
// The sale: the sample shop (services with a bounded number of workers, an unbounded queue, and no
// notion of clients that have left), gateways on one store, the coordinator, and an open-loop
// generator (package openloop) that offers half of what the shop can do, then ten times as much,
// then half again. Faults are injected on request. When the load has ended and the system is quiet
// it compares the ledgers of the services with what the clients were told.
//
// The scenarios a, c and d are plain GETs before one service, by the gateway and by other proxies,
// one after the other: ten times the capacity, a service that loses two thirds of it, one that
// loses half of it slowly. Scenario b has two routes that are transactions over shared services.
//
// # Bars
//
// A bar is a bound that the gateway promises to keep. Those of the audit are exact (no unit
// oversold, no buyer charged twice, no acknowledged order lost, no transaction unfinished). Those of
// speed depend on the machine: in the short forms they are ratios to a control of the same run.
//
// # Controls
//
// A control is the same test with something taken away, or with another proxy in the gateway's
// place. Each has to miss a bar, or the test is too weak to show anything: that is a bar too. A
// control whose program is not installed is reported as not run, never as passed.
//
// # Where it runs
//
// All traffic goes to loopback unless --target names an address; requests are bounded in number and
// time. It needs Linux: it reads /proc.
package flashsale
