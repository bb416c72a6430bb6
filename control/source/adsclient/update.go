package adsclient

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/nativedialect"
)

// Update is what a control plane has sent: a configuration, or endpoints. It is to be answered, once.
type Update struct {
	Server        string
	Configuration *Configuration // nil: endpoints
	Endpoints     []Endpoints

	session  *session
	typeURL  string
	nonce    string
	versions map[string]string // of what is in it and sound, by name
	fault    error             // of what else came with it
}

// Configuration is a document and its version.
type Configuration struct {
	Version  string // the document's own ([config.DocumentHash])
	Resource string // what the control plane calls this version; for [Client.Hold]
	Document []byte
}

// Endpoints are those of one service.
type Endpoints struct {
	Service   string
	Endpoints []config.Endpoint
}

var errNotAsked = errors.New("a resource that was not asked for")

// parse reads a response. What is in it and not sound is its fault, beside what is.
func (s *session) parse(r *discovery.DeltaDiscoveryResponse) *Update {
	u := &Update{
		Server: s.server, session: s, typeURL: r.GetTypeUrl(), nonce: r.GetNonce(), versions: map[string]string{},
	}
	for _, one := range r.GetResources() {
		if one == nil {
			continue
		}
		var err error
		switch u.typeURL {
		case nativedialect.ExtensionType:
			err = u.addConfiguration(one)
		case nativedialect.EndpointType:
			err = u.addEndpoints(one)
		default:
			err = fmt.Errorf("%w: of the type %.200q", errNotAsked, u.typeURL)
		}
		u.fault = errors.Join(u.fault, err)
	}
	if removed := r.GetRemovedResources(); len(removed) > 0 {
		s.client.Logger.Warn("the control plane has removed resources; what is in force stays", "control", s.server,
			"type", u.typeURL, "first", clip(removed[0], 200), "all", len(removed))
	}
	return u
}

func (u *Update) addConfiguration(from *discovery.Resource) error {
	var resource core.TypedExtensionConfig
	if err := from.GetResource().UnmarshalTo(&resource); err != nil {
		return fmt.Errorf("%.200q: %w", from.GetName(), err)
	}
	document, err := nativedialect.Document(&resource)
	if err != nil {
		return err
	}
	u.Configuration = &Configuration{
		Version: config.DocumentHash(document), Resource: from.GetVersion(), Document: document,
	}
	u.versions[nativedialect.ResourceName] = from.GetVersion()
	return nil
}

func (u *Update) addEndpoints(from *discovery.Resource) error {
	var resource endpoint.ClusterLoadAssignment
	if err := from.GetResource().UnmarshalTo(&resource); err != nil {
		return fmt.Errorf("%.200q: %w", from.GetName(), err)
	}
	service, list, err := nativedialect.Endpoints(&resource) // none: it is known that there is none
	if list == nil {
		list = []config.Endpoint{}
	}
	if err != nil {
		return err
	}
	switch {
	case u.session.client.asksFor(service):
	case u.session.hasLeft(service):
		return nil
	default:
		return fmt.Errorf("%w: endpoints of %.200q", errNotAsked, service)
	}
	u.Endpoints = append(u.Endpoints, Endpoints{service, list})
	u.versions[service] = from.GetVersion()
	return nil
}

// asksFor reports whether the endpoints of a service are wanted.
func (c *Client) asksFor(service string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(lacking([]string{service}, c.subscribed)) == 0
}

const reasonMax = 4000 // bytes of a reason that are sent

// Ack says that the update is in force. What came with it and was not sound is refused all the same.
func (u *Update) Ack() {
	u.hold()
	if u.fault != nil {
		u.Nack(u.fault)
		return
	}
	c := u.session.client
	c.mu.Lock()
	c.state.Acks++
	c.mu.Unlock()
	u.session.answer(u.typeURL, u.nonce, nil)
}

// hold notes the versions that are in force now.
func (u *Update) hold() {
	c := u.session.client
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, version := range u.versions {
		c.holdLocked(u.typeURL, name, version)
	}
}

// Nack says why the update is not in force. The reason goes to the control plane, whole up to 4,000 bytes.
func (u *Update) Nack(reason error) {
	text := clip(reason.Error(), reasonMax)
	n := &Nack{Server: u.Server, Reason: text, At: time.Now()}
	if u.Configuration != nil {
		n.Version = u.Configuration.Version
	}
	c := u.session.client
	c.mu.Lock()
	c.state.Nacks++
	c.state.LastNack = n
	c.mu.Unlock()
	c.Logger.Error("what the control plane has sent was refused; what is in force stays", "control", u.Server,
		"type", u.typeURL, "version", n.Version, "reason", text)
	u.session.answer(u.typeURL, u.nonce, errors.New(text))
}

// clip cuts a text to a number of bytes, and takes out what is not UTF-8.
func clip(s string, most int) string {
	if len(s) > most {
		s = s[:most]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
