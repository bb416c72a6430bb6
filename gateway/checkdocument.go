package gateway

import (
	"bytes"
	"errors"
	"fmt"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/nativedialect"
	"github.com/sluice-gateway/sluice/filters/identity"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// CheckDocument takes a document as gateways get it: over the wire, decoded, and built into routes
// and chains, of which nothing comes in force. A control plane asks it before any gateway does. Files
// and variables are those of the gateways, so they are not looked at. The error is a
// [*config.FaultsError] or wraps [ErrConfig].
func CheckDocument(d *config.Document) error {
	sent, err := nativedialect.Resource(d.JSON())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	wire, err := proto.Marshal(sent)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	var arrived core.TypedExtensionConfig
	if err := proto.Unmarshal(wire, &arrived); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	document, err := nativedialect.Document(&arrived)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if !bytes.Equal(document, d.JSON()) {
		return fmt.Errorf("%w: %w", ErrConfig, errors.New("the document does not arrive as it is written"))
	}
	read, err := config.ParseDocument("document", document, "")
	if err != nil {
		return err
	}
	cfg := read.Config()
	m := material{Material: policy.Material{KeySets: map[string]*identity.KeySet{}}}
	for _, source := range cfg.Identity {
		if source.JWT != nil && !source.JWT.Published() {
			m.KeySets[source.JWT.Keys] = new(identity.KeySet)
		}
	}
	if err := buildable(cfg, m); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}
