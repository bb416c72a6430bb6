// Package proxy measures what the gateway costs beside other proxies: `sluice bench proxy`.
//
// The contenders are nginx, HAProxy and Envoy where they are installed, a raw TCP relay, net/http's
// ReverseProxy, and the gateway plain and with its filters on. How they are measured stands in
// package measure.
package proxy
