// Package interop runs real programs and libraries, written by others, through a real gateway:
// h2spec, the gRPC interop client and server, three WebSocket implementations as clients and as
// servers, curl, Stripe's libraries, bodies of 1 GiB, uploads that are refused while Node, Python and Go still send
// them, and a page of another origin in Chromium, which reads every kind of response and follows a transaction. It has
// tests only.
//
// It is a module of its own, so that none of its dependencies reaches the gateway's. The gateway's
// program is named by SLUICE in the environment, the coordinator's by SLUICE_DTM; `make build interop` builds both and
// runs everything. From this folder:
//
//	SLUICE=$PWD/../../../bin/sluice go test -run TestCurl ./...
//
// Where a program has a partner, the same test also runs without the gateway between them, as the
// subtest "direct": when that fails, the test or the other programs are wrong, not the gateway.
//
// # Needed on the machine
//
// go (which builds h2spec and the gRPC programs, at the versions in go.mod), curl with HTTP/2, node
// and npm (which installs the packages of node/package-lock.json), python3 with its requests package and its venv
// module (whose pip installs those of python/requirements.txt), chromium (headless, with a profile of its own, which
// finds no host but this one). What is missing fails the tests, it never skips them. All traffic is on loopback; the
// interop server, which knows no other way, listens on all interfaces while it runs.
package interop
