package envoy

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-gateway/sluice/filters"
)

// outgoing is a ProcessingResponse as it goes over the wire.
type outgoing []byte

// The numbers of fields in ProcessingResponse. Those of the replies are the ones of the messages less one.
const (
	immediateField    = 7
	modeOverrideField = 9
)

// codec is the one of protobuf, but for the messages of ext_proc.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements [encoding.CodecV2].
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*outgoing); ok {
		return mem.BufferSlice{mem.Copy(*m, mem.DefaultBufferPool())}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements [encoding.CodecV2].
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*incoming); ok {
		return m.read(data)
	}
	return c.CodecV2.Unmarshal(data, v)
}

// mode is a ProcessingMode: the numbers of its fields and their values, without those that are 0.
type mode struct{ requestBody, responseBody, requestTrailer, responseHead, responseTrailer uint64 }

// Values of the fields of a mode.
const (
	send = 1
	skip = 2

	bufferedBody        = 2
	bufferedPartialBody = 3
)

// appendMode appends a mode_override.
func appendMode(b []byte, m mode) []byte {
	inner := make([]byte, 0, 16)
	for number, value := range [...]uint64{1: send, 2: m.responseHead, 3: m.requestBody, 4: m.responseBody,
		5: m.requestTrailer, 6: m.responseTrailer} {
		if value != 0 {
			inner = protowire.AppendVarint(protowire.AppendTag(inner, protowire.Number(number),
				protowire.VarintType), value)
		}
	}
	return appendMessage(b, modeOverrideField, inner)
}

func appendMessage(b []byte, number protowire.Number, inner []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), inner)
}

func appendUint(b []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}

// appendReply appends the reply to a message of that kind, with a HeaderMutation; an empty one is none.
func appendReply(b []byte, to kind, mutation []byte) []byte {
	return appendReplyOver(b, to, mutation, nil)
}

// reroute is a member of the reply behind the HeaderMutation: Envoy chooses route and cluster again
// (CommonResponse.clear_route_cache).
var reroute = appendUint(nil, 5, 1)

// appendReplyOver is appendReply with a member behind the mutation; of a trailer's reply there is none.
func appendReplyOver(b []byte, to kind, mutation, member []byte) []byte {
	common := len(member)
	if len(mutation) > 0 {
		common += sizeOf(len(mutation))
	}
	if to == requestTrailer || to == responseTrailer {
		b = appendHead(b, to-1, common)
		if common > 0 {
			b = appendMessage(b, 1, mutation)
		}
		return b
	}
	response := 0
	if common > 0 {
		response = sizeOf(common)
	}
	b = appendHead(b, to-1, response)
	if common == 0 {
		return b
	}
	b = appendHead(b, 1, common)
	if len(mutation) > 0 {
		b = appendMessage(b, 2, mutation)
	}
	return append(b, member...)
}

// appendHead appends what stands before a message of that length.
func appendHead(b []byte, number protowire.Number, length int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.BytesType), uint64(length))
}

// sizeOf is how long a message of that length is with what stands before it, where its number is below 16.
func sizeOf(length int) int { return 1 + protowire.SizeBytes(length) }

// appendSet appends a field that is set to a HeaderMutation: it replaces those of its name, or is one more of them.
func appendSet(b []byte, name, value string, more bool) []byte {
	field := sizeOf(len(name)) + sizeOf(len(value))
	option := sizeOf(field)
	if !more {
		option += 2
	}
	b = appendHead(appendHead(b, 1, option), 1, field)
	b = appendHead(b, 1, len(name))
	for i := range len(name) { // as Envoy has them
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	b = append(appendHead(b, 3, len(value)), value...)
	if !more {
		b = appendUint(b, 3, overwriteOrAdd)
	}
	return b
}

// overwriteOrAdd is OVERWRITE_IF_EXISTS_OR_ADD; to append is 0.
const overwriteOrAdd = 2

// appendRemoved appends a field that is taken out to a HeaderMutation.
func appendRemoved(b []byte, name string) []byte { return append(appendHead(b, 2, len(name)), name...) }

// appendImmediate appends a response in place of the service's. grpcStatus below 0 is none.
func appendImmediate(b []byte, status int, mutation, body []byte, grpcStatus int64, details string) []byte {
	inner := make([]byte, 0, len(mutation)+len(body)+len(details)+32)
	code := appendUint(nil, 1, uint64(status))
	inner = appendMessage(inner, 1, code)
	inner = appendMessage(inner, 2, mutation)
	if len(body) > 0 {
		inner = appendMessage(inner, 3, body)
	}
	if grpcStatus >= 0 {
		inner = appendMessage(inner, 4, appendUint(nil, 1, uint64(grpcStatus)))
	}
	if details != "" {
		inner = append(appendHead(inner, 5, len(details)), details...)
	}
	return appendMessage(b, immediateField, inner)
}

// appendFields appends the fields to a HeaderMutation so that they are the ones of their names.
func appendFields(b []byte, h filters.Header, keep func(f *filters.Field) bool) []byte {
	for i := range h {
		if f := &h[i]; keep(f) {
			b = appendSet(b, f.Name, f.Value, has(h[:i], f.Name))
		}
	}
	return b
}

func has(h filters.Header, name string) bool {
	for i := range h {
		if filters.EqualName(h[i].Name, name) {
			return true
		}
	}
	return false
}

func hasField(h filters.Header, f *filters.Field) bool {
	for i := range h {
		if filters.EqualName(h[i].Name, f.Name) && h[i].Value == f.Value {
			return true
		}
	}
	return false
}
