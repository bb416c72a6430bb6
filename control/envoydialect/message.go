package envoydialect

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/control/config"
)

// pack puts a message into an Any, always with the same bytes for the same message. The first message
// that has no form is the error of the compilation.
func (c *compiler) pack(m proto.Message) *anypb.Any {
	out := new(anypb.Any)
	err := anypb.MarshalFrom(out, m, proto.MarshalOptions{Deterministic: true})
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("envoydialect: %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return out
}

func (c *compiler) extension(name string, m proto.Message) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: c.pack(m)}
}

func duration[D config.Duration | time.Duration](d D) *durationpb.Duration {
	return durationpb.New(time.Duration(d))
}

func yes() *wrapperspb.BoolValue { return wrapperspb.Bool(true) }

func no() *wrapperspb.BoolValue { return wrapperspb.Bool(false) }

func number[N int | uint32](n N) *wrapperspb.UInt32Value { return wrapperspb.UInt32(uint32(n)) }

// set is a header field that replaces one of the name.
func set(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// setAbsent is a header field that is set where there is none of the name.
func setAbsent(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT,
	}
}

func inline(text string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: text}}
}

func file(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}

// adsSource says that a resource comes over the stream that everything comes over.
func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// socket is the address of host:port. The host may be a name.
func socket(host, port string) (*corev3.Address, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("envoydialect: the port %q is not a number", port)
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(n)},
	}}}, nil
}

func cidrs(prefixes []netip.Prefix) []*corev3.CidrRange {
	list := make([]*corev3.CidrRange, len(prefixes))
	for i, p := range prefixes {
		list[i] = &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: number(p.Bits())}
	}
	return list
}
