// Package kubeapi is a small API server of Kubernetes for tests: it lists and watches EndpointSlices
// (discovery.k8s.io/v1) as the API's concepts describe it, over HTTPS with bearer tokens.
//
// It has what clients get wrong: resource versions that are gone (410, as a status and as an event),
// bookmarks, pages with a continue token, watches that end, and connections that break. On request it
// is slow, silent, refuses, or sends garbage. It keeps all slices and all events in memory and is for
// tests only: whoever has the token may read.
package kubeapi
