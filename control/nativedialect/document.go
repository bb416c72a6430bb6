package nativedialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	xdstype "github.com/cncf/xds/go/xds/type/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/control/config"
)

const (
	// UserAgent is the user_agent_name of a node that speaks this dialect.
	UserAgent = "sluice"
	// ResourceName is the name of the one resource that holds the configuration.
	ResourceName = "sluice"
	// ConfigType is the type of what the resource's TypedStruct stands for.
	ConfigType = "type.googleapis.com/sluice.config.v1.Gateway"
	// ExtensionType and EndpointType are the types of resources of this dialect.
	ExtensionType = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	EndpointType  = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// wideNumber is the one member of an object that stands for a number that a float64 does not hold.
const wideNumber = "$sluice.number"

// depthMax bounds the nesting of a document, which has at most 128 levels.
const depthMax = 200

// Resource writes a document, which is canonical JSON, into the resource that gateways are given.
func Resource(document []byte) (*core.TypedExtensionConfig, error) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var root map[string]any
	if err := d.Decode(&root); err != nil {
		return nil, fmt.Errorf("nativedialect: document: %w", err)
	}
	value, err := object(root)
	if err != nil {
		return nil, fmt.Errorf("nativedialect: %w", err)
	}
	packed := new(anypb.Any)
	// The same document is the same bytes at every control plane: its version is a hash of them.
	o := proto.MarshalOptions{Deterministic: true}
	if err := anypb.MarshalFrom(packed, &xdstype.TypedStruct{TypeUrl: ConfigType, Value: value}, o); err != nil {
		return nil, fmt.Errorf("nativedialect: %w", err)
	}
	return &core.TypedExtensionConfig{Name: ResourceName, TypedConfig: packed}, nil
}

func object(from map[string]any) (*structpb.Struct, error) {
	to := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(from))}
	if len(from) == 1 && from[wideNumber] != nil {
		return nil, fmt.Errorf("a mapping whose only key is %q cannot be sent", wideNumber)
	}
	for name, member := range from {
		v, err := value(member)
		if err != nil {
			return nil, err
		}
		to.Fields[name] = v
	}
	return to, nil
}

func value(from any) (*structpb.Value, error) {
	switch v := from.(type) {
	case json.Number:
		return number(v), nil
	case map[string]any:
		o, err := object(v)
		return structpb.NewStructValue(o), err
	case []any:
		list := &structpb.ListValue{Values: make([]*structpb.Value, len(v))}
		for i, item := range v {
			one, err := value(item)
			if err != nil {
				return nil, err
			}
			list.Values[i] = one
		}
		return structpb.NewListValue(list), nil
	}
	v, err := structpb.NewValue(from)
	if err != nil {
		return nil, fmt.Errorf("a value cannot be sent: %w", err)
	}
	return v, nil
}

// number writes a number as one, or as an object where reading it back would give another one.
func number(n json.Number) *structpb.Value {
	if f, err := n.Float64(); err == nil && text(f) == n.String() {
		return structpb.NewNumberValue(f)
	}
	return structpb.NewStructValue(&structpb.Struct{
		Fields: map[string]*structpb.Value{wideNumber: structpb.NewStringValue(n.String())},
	})
}

// text is how a document writes a number that came as a float64.
func text(f float64) string {
	return config.CanonicalNumber(json.Number(strconv.FormatFloat(f, 'g', -1, 64)))
}

// ErrForeign says that a resource is not a configuration of this dialect.
var ErrForeign = errors.New("nativedialect: not a configuration of Sluice")

// Document returns the document of a resource, as [Resource] was given it. The error wraps [ErrForeign].
func Document(resource *core.TypedExtensionConfig) ([]byte, error) {
	if resource.GetName() != ResourceName {
		return nil, fmt.Errorf("%w: a resource of the name %.80q", ErrForeign, resource.GetName())
	}
	var typed xdstype.TypedStruct
	if err := resource.GetTypedConfig().UnmarshalTo(&typed); err != nil {
		return nil, fmt.Errorf("%w: %.200q in place of a TypedStruct", ErrForeign,
			resource.GetTypedConfig().GetTypeUrl())
	}
	if typed.GetTypeUrl() != ConfigType {
		return nil, fmt.Errorf("%w: a TypedStruct of the type %.200q", ErrForeign, typed.GetTypeUrl())
	}
	v, err := plain(structpb.NewStructValue(typed.GetValue()), 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b) // keys in order
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// plain returns a value as encoding/json writes it.
func plain(from *structpb.Value, depth int) (any, error) {
	if depth > depthMax {
		return nil, errors.New("nested too deep")
	}
	switch v := from.GetKind().(type) {
	case *structpb.Value_NumberValue:
		if math.IsNaN(v.NumberValue) || math.IsInf(v.NumberValue, 0) {
			return nil, errors.New("a number that is none")
		}
		return json.Number(text(v.NumberValue)), nil
	case *structpb.Value_StringValue:
		return v.StringValue, nil
	case *structpb.Value_BoolValue:
		return v.BoolValue, nil
	case *structpb.Value_ListValue:
		list := make([]any, len(v.ListValue.GetValues()))
		for i, item := range v.ListValue.GetValues() {
			one, err := plain(item, depth+1)
			if err != nil {
				return nil, err
			}
			list[i] = one
		}
		return list, nil
	case *structpb.Value_StructValue:
		fields := v.StructValue.GetFields()
		if wide := fields[wideNumber]; wide != nil && len(fields) == 1 {
			return readWide(wide.GetStringValue())
		}
		members := make(map[string]any, len(fields))
		for name, field := range fields {
			one, err := plain(field, depth+1)
			if err != nil {
				return nil, err
			}
			members[name] = one
		}
		return members, nil
	}
	return nil, nil
}

// readWide reads a number that came as text.
func readWide(s string) (any, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	n, ok := v.(json.Number)
	if _, trailing := d.Token(); err != nil || !ok || !errors.Is(trailing, io.EOF) {
		return nil, errors.New("a number that is none")
	}
	return n, nil
}
