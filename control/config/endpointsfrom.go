package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
)

// EndpointsFrom is where a service's endpoints are read, again and again, without a reload: exactly one of File, DNS
// and Kubernetes. Nothing of it is read or asked by [Load]; paths are absolute after it.
type EndpointsFrom struct {
	Scheme     string                   `json:"scheme" jsonschema:"enum=http,enum=https,enum=h2c"`
	File       string                   `json:"file" jsonschema:"minLength=1"`
	DNS        *EndpointsFromDNS        `json:"dns"`
	Kubernetes *EndpointsFromKubernetes `json:"kubernetes"`
}

func (EndpointsFrom) describe() descriptions {
	return descriptions{
		"": "Where the endpoints are read, again and again, in place of endpoints. While the source is gone, or not " +
			"right, the last endpoints stay.",
		"Scheme": "How the endpoints are spoken to that have no scheme: http, https or h2c.",
		"File": "A file of endpoints, one a line, each as in endpoints or host:port; or a list of them in YAML or " +
			"JSON. It need not be there yet.",
		"DNS":        "The addresses of a name, looked up as often as dns says.",
		"Kubernetes": "The ready endpoints of a Kubernetes service, by its EndpointSlices.",
	}
}

func (e *EndpointsFrom) setDefaults() { e.Scheme = "http" }

func (e *EndpointsFrom) derive(f *files) {
	if e.File != "" && !strings.Contains(e.File, "://") {
		e.File = f.absolute(e.File)
	}
}

func (e *EndpointsFrom) check(s site) {
	s.exactlyOne("endpoints come from", true, "file", "dns", "kubernetes")
	if strings.Contains(e.File, "://") {
		s.fault(s.at("file"), "%q is not a file", e.File)
	}
}

// String says in one line where the endpoints come from.
func (e *EndpointsFrom) String() string {
	switch {
	case e.DNS != nil && e.DNS.SRV:
		return "dns " + e.DNS.Name + " (SRV)"
	case e.DNS != nil:
		return "dns " + net.JoinHostPort(e.DNS.Name, strconv.Itoa(e.DNS.Port))
	case e.Kubernetes != nil:
		k := e.Kubernetes
		return "kubernetes " + k.Namespace + "/" + k.Service + ":" + k.Port.String()
	}
	return "file " + e.File
}

// Endpoint returns the endpoint at a host and port that was found; host is what a certificate has to name and what a
// request without a Host is sent with, and empty where that is the address itself.
func (e *EndpointsFrom) Endpoint(address, host string) (Endpoint, error) {
	found, err := parseEndpoint(e.Scheme + "://" + address)
	if err != nil {
		return Endpoint{}, fmt.Errorf("%q %w", address, err)
	}
	if host != "" {
		found.Host = host
	}
	return found, nil
}

// ParseEndpoint reads an endpoint as it is written in a configuration, or a host and port of the scheme.
func (e *EndpointsFrom) ParseEndpoint(written string) (Endpoint, error) {
	if !strings.Contains(written, "://") && !strings.HasPrefix(written, socketPrefix) {
		return e.Endpoint(written, "")
	}
	found, err := parseEndpoint(written)
	if err != nil {
		return Endpoint{}, fmt.Errorf("%q %w", written, err)
	}
	return found, nil
}

// EndpointsFromDNS is a name in DNS.
type EndpointsFromDNS struct {
	Name string `json:"name" jsonschema:"required,minLength=1"`
	Port int    `json:"port" jsonschema:"minimum=1,maximum=65535" config:"omitzero"`
	SRV  bool   `json:"srv"`
}

func (EndpointsFromDNS) describe() descriptions {
	return descriptions{
		"Name": "The name; with srv that of its SRV records, such as _http._tcp.orders.internal.",
		"Port": "The port of the addresses; with srv it comes from the records.",
		"SRV":  "SRV records say what to look up: those of the lowest priority that is there, weights left out.",
	}
}

// check takes no port with srv, which has its own, and needs one without.
func (d *EndpointsFromDNS) check(s site) {
	port, name := s.at("port"), s.at("name")
	switch {
	case d.SRV && s.written(port):
		s.fault(port, "the port comes from the SRV records")
	case !d.SRV && !s.written(port):
		s.fault(s.path, "needs a port, or srv: true")
	}
	if _, err := netip.ParseAddr(d.Name); err == nil {
		s.fault(name, "%q is an address: write it in endpoints", d.Name)
	} else if !soundHost(strings.TrimSuffix(d.Name, "."), false) {
		s.fault(name, "%q is not a name in DNS", d.Name)
	}
}

// EndpointsFromKubernetes is a service of a Kubernetes cluster. CA and Token are read whenever a connection is made,
// since both are changed in place.
type EndpointsFromKubernetes struct {
	Service   string         `json:"service" jsonschema:"required,pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"`
	Namespace string         `json:"namespace" jsonschema:"required,pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"`
	Port      KubernetesPort `json:"port" jsonschema:"required"`
	API       string         `json:"api" jsonschema:"minLength=1"`
	Token     string         `json:"token" jsonschema:"minLength=1"`
	CA        string         `json:"ca" jsonschema:"minLength=1"`
}

// Where a pod finds the API of its cluster, and what it shows there.
const (
	inClusterAPI   = "https://kubernetes.default.svc"
	inClusterToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	inClusterCA    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
)

func (EndpointsFromKubernetes) describe() descriptions {
	return descriptions{
		"Service":   "The Kubernetes service, by name.",
		"Namespace": "Its namespace.",
		"Port":      "The name of the service's port, or the number of the endpoints' port (targetPort).",
		"API": "The URL of the API server; without it that of the cluster whose pod this is, " + inClusterAPI + ", " +
			"with the pod's own token and ca. http only to this machine, as kubectl proxy listens.",
		"Token": "The file of a bearer token, read again at each connection; without it none is sent.",
		"CA":    "The file of the authorities that the API server's certificate comes from, PEM; else the system's.",
	}
}

func (k *EndpointsFromKubernetes) derive(f *files) {
	if k.API == "" {
		k.API = inClusterAPI
		if k.Token == "" {
			k.Token = inClusterToken
		}
		if k.CA == "" {
			k.CA = inClusterCA
		}
	}
	for _, path := range []*string{&k.Token, &k.CA} {
		if *path != "" {
			*path = f.absolute(*path)
		}
	}
}

func (k *EndpointsFromKubernetes) check(s site) {
	u, err := url.Parse(k.API)
	plain := err == nil && u.Scheme == "http"
	api := s.at("api")
	switch {
	case plain && !isLoopback(u.Hostname()):
		s.fault(api, "%q is spoken to over https only, unless it is this machine: a token goes there, and endpoints "+
			"come from there", k.API)
	case plain && k.CA != "":
		s.fault(s.at("ca"), "is for https, and api is http")
	case plain && k.Token != "":
		s.fault(s.at("token"), "travels over https only, and api is http")
	case plain:
		err = checkHTTPS("https" + strings.TrimPrefix(k.API, "http"))
	case err == nil:
		err = checkHTTPS(k.API)
	}
	switch {
	case errors.Is(err, errCredentials):
		s.fault(api, "the URL %v", err)
	case err != nil:
		s.fault(api, "%q %v", k.API, err)
	case u.RawQuery != "":
		s.fault(api, "%q has a query, and an API server's URL has none", k.API)
	}
}

// KubernetesPort is a port of a Kubernetes service: by the name that the service gives it or, where that is empty, by
// the number that its endpoints have.
type KubernetesPort struct {
	Name   string
	Number int
}

const (
	kubernetesPortPattern = `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`
	wantKubernetesPort    = "the name of a port such as http, or a number from 1 to 65535"
)

var kubernetesPortForm = regexp.MustCompile(kubernetesPortPattern)

// String returns it as it is written.
func (p KubernetesPort) String() string {
	if p.Name != "" {
		return p.Name
	}
	return strconv.Itoa(p.Number)
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *KubernetesPort) UnmarshalText(b []byte) error {
	text := string(b)
	if n, err := strconv.Atoi(text); err == nil {
		if n < 1 || n > 65535 {
			return fmt.Errorf("%q is not %s", text, wantKubernetesPort)
		}
		*p = KubernetesPort{Number: n}
		return nil
	}
	if !kubernetesPortForm.MatchString(text) {
		return fmt.Errorf("%q is not %s", text, wantKubernetesPort)
	}
	*p = KubernetesPort{Name: text}
	return nil
}

// MarshalJSON writes a number as one.
func (p KubernetesPort) MarshalJSON() ([]byte, error) {
	if p.Name == "" {
		return strconv.AppendInt(nil, int64(p.Number), 10), nil
	}
	return strconv.AppendQuote(nil, p.Name), nil
}

// JSONSchema takes a number, or text.
func (KubernetesPort) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Description: wantKubernetesPort,
		If:          &jsonschema.Schema{Type: "string"},
		Then:        &jsonschema.Schema{Pattern: kubernetesPortPattern},
		Else:        &jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: "65535"},
	}
}
