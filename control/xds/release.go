package xds

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/discovery"
	"github.com/sluice-gateway/sluice/control/envoydialect"
	"github.com/sluice-gateway/sluice/control/nativedialect"
)

// MessageBytesMax bounds what one response to a node may have: clients set their limit by it.
const MessageBytesMax = 16 << 20

// dialect is what a node understands.
type dialect string

const (
	native dialect = "sluice"
	envoy  dialect = "envoy"
)

// release is one document compiled to both dialects. What it holds is not changed; the snapshots are
// made anew with the endpoints that are known.
type release struct {
	version        string
	document       *config.Document
	approximations []envoydialect.Approximation
	compiled       map[dialect]*cache.Snapshot // without endpoints that are discovered
	noEnvoys       error                       // why no Envoy is sent it; nil: they are
}

// compile compiles a document to both dialects.
func compile(d *config.Document, o envoydialect.Options) (*release, error) {
	version, err := versionOf(d)
	if err != nil {
		return nil, err
	}
	r := &release{version: version, document: d, compiled: map[dialect]*cache.Snapshot{}}
	extension, err := nativedialect.Resource(d.JSON())
	if err != nil {
		return nil, err
	}
	resources, approximations, err := envoydialect.CompileDocument(d, o)
	if err != nil {
		return nil, err
	}
	if resources == nil {
		resources, r.noEnvoys = new(envoydialect.Resources), lackFault(approximations)
	}
	r.approximations = approximations
	snapshots := []struct {
		of   dialect
		list map[resource.Type][]types.Resource
	}{
		{native, map[resource.Type][]types.Resource{resource.ExtensionConfigType: {extension}}},
		{envoy, map[resource.Type][]types.Resource{
			resource.ListenerType: asResources(resources.Listeners), resource.RouteType: asResources(resources.Routes),
			resource.ClusterType:  asResources(resources.Clusters),
			resource.EndpointType: asResources(resources.Endpoints),
		}},
	}
	for _, s := range snapshots {
		if r.compiled[s.of], err = newSnapshot(s.list); err != nil {
			return nil, fmt.Errorf("xds: %s: %w", s.of, err)
		}
	}
	// The version of the configuration is the document's own, so that it reads the same everywhere.
	r.compiled[native].Resources[types.ExtensionConfig].Version = d.Hash()
	return r, nil
}

// envoysOwn are the sections that gateways are not sent and that Envoys' resources are made of too.
type envoysOwn struct {
	Listen config.Listen
	Envoy  config.Envoy
}

// ownByDefault is what they are where nothing is written.
var ownByDefault = sync.OnceValues(func() ([]byte, error) {
	d, err := config.ParseDocument("", []byte("version: 1"), "")
	if err != nil {
		return nil, err
	}
	return json.Marshal(envoysOwn{d.Config().Listen, d.Config().Envoy})
})

// versionOf returns the version of a document: that of what gateways are sent and, where a section
// that only Envoys are made of is written, a hash of those behind it.
func versionOf(d *config.Document) (string, error) {
	own, err := json.Marshal(envoysOwn{d.Config().Listen, d.Config().Envoy})
	if err != nil {
		return "", fmt.Errorf("xds: %w", err)
	}
	usual, err := ownByDefault()
	if err != nil {
		return "", fmt.Errorf("xds: %w", err)
	}
	if bytes.Equal(own, usual) {
		return d.Hash(), nil
	}
	sum := sha256.Sum256(own)
	return d.Hash() + "." + hex.EncodeToString(sum[:3]), nil
}

func asResources[M types.Resource](list []M) []types.Resource {
	out := make([]types.Resource, len(list))
	for i, m := range list {
		out[i] = m
	}
	return out
}

// newSnapshot makes a snapshot whose version of each type is a hash of its contents. The map of
// versions is made here, since snapshots are shared by the nodes and two caches.
func newSnapshot(list map[resource.Type][]types.Resource) (*cache.Snapshot, error) {
	s := new(cache.Snapshot)
	for typeURL, resources := range list {
		bytes := 0
		for _, r := range resources {
			bytes += proto.Size(r)
		}
		if bytes > MessageBytesMax {
			return nil, fmt.Errorf("resources of type %s have %d bytes, more than the %d of a message", typeURL, bytes,
				MessageBytesMax)
		}
		s.Resources[cache.GetResponseType(typeURL)] = cache.NewResources("", resources)
	}
	if err := s.ConstructVersionMap(); err != nil {
		return nil, err
	}
	for typeURL := range list {
		s.Resources[cache.GetResponseType(typeURL)].Version = hashOf(s.VersionMap[typeURL])
	}
	return s, nil
}

// hashOf returns a short name for versions of resources by their names.
func hashOf(versions map[string]string) string {
	h := sha256.New()
	for _, name := range sortedKeys(versions) {
		fmt.Fprintf(h, "%q %s\n", name, versions[name])
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// withEndpoints returns the release's snapshots with the endpoints that its own sources have found, by source.
func (r *release) withEndpoints(found map[string][]config.Endpoint) (map[dialect]*cache.Snapshot, error) {
	all := map[dialect]*cache.Snapshot{}
	for of, compiled := range r.compiled {
		list, err := r.assignments(of, found)
		if err != nil {
			return nil, err
		}
		endpoints, err := newSnapshot(map[resource.Type][]types.Resource{resource.EndpointType: list})
		if err != nil {
			return nil, fmt.Errorf("xds: %s: %w", of, err)
		}
		s := &cache.Snapshot{Resources: compiled.Resources, VersionMap: maps.Clone(compiled.VersionMap)}
		s.Resources[types.Endpoint] = endpoints.Resources[types.Endpoint]
		s.VersionMap[resource.EndpointType] = endpoints.VersionMap[resource.EndpointType]
		all[of] = s
	}
	return all, nil
}

// assignments returns the endpoints of all services in a dialect: those that were found, and else
// those that are written.
func (r *release) assignments(of dialect, found map[string][]config.Endpoint) ([]types.Resource, error) {
	var list []types.Resource
	assignment := nativedialect.Assignment
	if of == envoy {
		assignment = envoydialect.Assignment
	}
	discovered := map[string][]config.Endpoint{}
	for name, s := range r.document.Config().Services {
		if s != nil && s.EndpointsFrom != nil {
			if endpoints := found[discovery.SourceKey(s)]; endpoints != nil {
				discovered[name] = endpoints
			}
		}
	}
	for name, written := range r.compiled[of].Resources[types.Endpoint].Items {
		if discovered[name] == nil {
			list = append(list, written.Resource)
		}
	}
	for _, name := range sortedKeys(discovered) {
		a, err := assignment(name, discovered[name])
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// secretsFault says that a document has secrets that may not be sent, and where they are written.
func (r *release) secretsFault() error {
	secrets := r.document.Secrets()
	if len(secrets) == 0 {
		return nil
	}
	places := make([]string, 0, secretsNamed)
	for _, l := range secrets[:min(len(secrets), secretsNamed)] {
		places = append(places, fmt.Sprintf("%s (%s:%d)", l.Path, l.File, l.Line))
	}
	if more := len(secrets) - len(places); more > 0 {
		places = append(places, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%w: %s", errSecrets, strings.Join(places, ", "))
}

// lackFault says that a document has values which Envoys would need and this machine does not have.
func lackFault(list []envoydialect.Approximation) error {
	places := make([]string, 0, secretsNamed+1)
	for _, a := range list[:min(len(list), secretsNamed)] {
		places = append(places, a.Place)
	}
	if more := len(list) - len(places); more > 0 {
		places = append(places, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%w: %s", errLack, strings.Join(places, ", "))
}

var errLack = errors.New("the configuration has variables that the control plane's machine does not have, and Envoys " +
	"need what they stand for; set them for sluice control")

// secretsNamed bounds how many places are named in a message.
const secretsNamed = 3

var errSecrets = errors.New("the configuration has secrets written out, which travel over mTLS only; " +
	"set control.listen.clientCA, or write them as ${env:NAME} or ${file:PATH}")

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
