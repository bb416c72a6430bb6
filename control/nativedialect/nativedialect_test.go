package nativedialect

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	xdstype "github.com/cncf/xds/go/xds/type/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/control/config"
)

// send takes a document over the wire.
func send(t rapid.TB, document []byte) []byte {
	t.Helper()
	resource, err := Resource(document)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := proto.Marshal(resource)
	if err != nil {
		t.Fatal(err)
	}
	var arrived core.TypedExtensionConfig
	if err := proto.Unmarshal(wire, &arrived); err != nil {
		t.Fatal(err)
	}
	got, err := Document(&arrived)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDocumentArrivesAsItWasSent(t *testing.T) {
	for _, document := range []string{
		`{}`, `{"a":null,"b":true,"c":[],"d":{},"e":"<&>\u2028é\n"}`,
		`{"n":[0,1,-1,9007199254740991,9007199254740993,-9223372036854775808,18446744073709551615]}`,
		`{"n":[0.5,0.1,1e+21,1.5e-09,5e-324,123456789.25]}`,
		`{"opens":"2026-11-11T00:00:00+08:00","t":"${env:A:-b}"}`,
	} {
		if got := string(send(t, []byte(document))); got != document {
			t.Errorf("sent %s\n got %s", document, got)
		}
	}
}

func TestEveryDocumentOfTheModelArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var value func(depth int) string
		value = func(depth int) string {
			switch rapid.IntRange(0, 5-min(depth, 2)).Draw(t, "kind") {
			case 0:
				return rapid.StringMatching(`-?(0|[1-9][0-9]{0,18})`).Draw(t, "integer")
			case 1:
				return rapid.StringMatching(`[0-9]{1,9}\.[0-9]{1,9}`).Draw(t, "number")
			case 2:
				return `"` + rapid.StringMatching(`[ -~&&[^"\\]]{0,9}`).Draw(t, "text") + `"`
			case 3:
				return "null"
			case 4:
				return "[" + value(depth+1) + "," + value(depth+1) + "]"
			}
			return "{a: " + value(depth+1) + ", b: " + value(depth+1) + "}"
		}
		text := "version: 1\nservices: {s: {endpoints: [\"http://s\"]}}\ncoordinator: {dtm: {}}\n" +
			"transactions: {t: {mode: saga, steps: [{name: s,\n" +
			" do: {service: s, method: POST, path: /x, body: " + value(0) + "},\n" +
			" undo: {service: s, method: POST, path: /y}}]}}\n"
		d, err := config.ParseDocument("d.yaml", []byte(text), "")
		if err != nil {
			t.Skip(err) // a number that YAML does not take
		}
		if got := string(send(t, d.JSON())); got != string(d.JSON()) {
			t.Fatalf("sent %s\n got %s", d.JSON(), got)
		}
	})
}

func TestResourceRefusesWhatItCouldNotTell(t *testing.T) {
	if _, err := Resource([]byte(`{"a":{"$sluice.number":"1"}}`)); err == nil {
		t.Error("a mapping that looks like a number is sent")
	}
	if _, err := Resource([]byte(`{`)); err == nil {
		t.Error("half a document is sent")
	}
}

func typed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestForeignResourcesAreRefused(t *testing.T) {
	deep := structpb.NewNumberValue(1)
	for range depthMax + 10 {
		deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
	}
	of := func(v *structpb.Value) *anypb.Any {
		return typed(t, &xdstype.TypedStruct{TypeUrl: ConfigType,
			Value: &structpb.Struct{Fields: map[string]*structpb.Value{"a": v}}})
	}
	wide := func(s string) *anypb.Any {
		return of(structpb.NewStructValue(&structpb.Struct{
			Fields: map[string]*structpb.Value{wideNumber: structpb.NewStringValue(s)}}))
	}
	for name, r := range map[string]*core.TypedExtensionConfig{
		"nothing":      nil,
		"other name":   {Name: "router", TypedConfig: of(deep)},
		"no config":    {Name: ResourceName},
		"other type":   {Name: ResourceName, TypedConfig: typed(t, &core.Node{})},
		"other struct": {Name: ResourceName, TypedConfig: typed(t, &xdstype.TypedStruct{TypeUrl: "x"})},
		"garbage": {Name: ResourceName,
			TypedConfig: &anypb.Any{TypeUrl: of(deep).TypeUrl, Value: []byte("\xff\xff")}},
		"deep":         {Name: ResourceName, TypedConfig: of(deep)},
		"not a number": {Name: ResourceName, TypedConfig: of(structpb.NewNumberValue(math.NaN()))},
		"wide text":    {Name: ResourceName, TypedConfig: wide("x")},
		"wide two":     {Name: ResourceName, TypedConfig: wide("1 2")},
	} {
		if document, err := Document(r); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: document %.50s, error %v; want ErrForeign", name, document, err)
		}
	}
}

func TestEndpointsArriveAsTheyWereSent(t *testing.T) {
	sent := []config.Endpoint{
		{Network: "tcp", Address: "10.0.0.1:80", Host: "order"},
		{Network: "tcp", Address: "[2001:db8::1]:443", Host: "order", TLS: true},
		{Network: "tcp", Address: "order.internal:81", Host: "order.internal:81", HTTP2: true},
		{Network: "unix", Address: "/run/order.sock", Host: "localhost"},
	}
	assignment, err := Assignment("order", sent)
	if err != nil {
		t.Fatal(err)
	}
	service, got, err := Endpoints(assignment)
	if err != nil || service != "order" || !reflect.DeepEqual(got, sent) {
		t.Errorf("%s %+v, error %v; want %+v", service, got, err, sent)
	}
}

func TestEndpointsRefuseWhatCannotBeDialled(t *testing.T) {
	one := func(address string, port uint32, health core.HealthStatus) *endpoint.ClusterLoadAssignment {
		return &endpoint.ClusterLoadAssignment{ClusterName: "order", Endpoints: []*endpoint.LocalityLbEndpoints{{
			LbEndpoints: []*endpoint.LbEndpoint{{HealthStatus: health, HostIdentifier: &endpoint.LbEndpoint_Endpoint{
				Endpoint: &endpoint.Endpoint{Address: &core.Address{Address: &core.Address_SocketAddress{
					SocketAddress: &core.SocketAddress{
						Address: address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port}}}}}}}},
		}}}
	}
	for _, bad := range []*endpoint.ClusterLoadAssignment{
		one("", 80, 0), one("10.0.0.1", 0, 0), one("10.0.0.1", 70000, 0), one("a b", 80, 0),
		one(strings.Repeat("a", 300), 80, 0),
	} {
		if _, list, err := Endpoints(bad); err == nil {
			t.Errorf("endpoints %+v, want an error", list)
		}
	}
	split := one("10.0.0.1", 80, 0)
	split.Endpoints[0].LbEndpoints[0].GetEndpoint().Hostname = "a\r\nX-User: b"
	if _, list, err := Endpoints(split); err == nil {
		t.Errorf("endpoints %+v, want an error: a Host that is two fields", list)
	}
	if _, list, err := Endpoints(one("10.0.0.1", 80, core.HealthStatus_DRAINING)); err != nil || len(list) != 0 {
		t.Errorf("endpoints %+v, error %v; want none: it drains", list, err)
	}
	if _, list, err := Endpoints(nil); err != nil || len(list) != 0 {
		t.Errorf("endpoints %+v, error %v", list, err)
	}
}
