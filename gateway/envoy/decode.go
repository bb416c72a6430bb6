package envoy

import (
	"errors"
	"math"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-gateway/sluice/filters"
)

// kind is what a message of Envoy shows: the number of its field in ProcessingRequest.
type kind = protowire.Number

const (
	requestHead     kind = 2
	responseHead    kind = 3
	requestBody     kind = 4
	responseBody    kind = 5
	requestTrailer  kind = 6
	responseTrailer kind = 7

	attributesField kind = 9
)

// incoming is a ProcessingRequest of ext_proc as far as it is read here. Everything in it lies in the message's own
// memory, which is good until the next read into it. It is read without the objects of the protobuf library, which
// would cost more than all that is done with them.
type incoming struct {
	kind   kind // 0: nothing that is known
	fields filters.Header
	body   []byte
	ends   bool

	attributes attributes
	memory     []byte
}

// attributes are those that are asked for in the filter's configuration.
type attributes struct {
	source, protocol, details string
	flags                     uint64
	attempts                  float64 // -1: not said
}

// memoryKept bounds what a message keeps for the next one.
const memoryKept = 64 << 10

var errMalformed = errors.New("envoy: malformed message")

// read takes a message off the wire.
func (m *incoming) read(data mem.BufferSlice) error {
	n := data.Len()
	if cap(m.memory) < n {
		m.memory = make([]byte, n)
	}
	m.memory = m.memory[:n]
	data.CopyTo(m.memory)
	return m.parse(m.memory)
}

// drop lets go of memory that is more than another message is likely to need.
func (m *incoming) drop() {
	clear(m.fields)
	m.fields, m.body, m.attributes = m.fields[:0], nil, attributes{}
	if cap(m.memory) > memoryKept {
		m.memory = nil
	}
}

func (m *incoming) parse(b []byte) error {
	m.kind, m.fields, m.body, m.ends, m.attributes = 0, m.fields[:0], nil, false, attributes{attempts: -1}
	return each(b, func(number kind, value []byte, _ uint64) error {
		if value == nil { // no message, whatever its number
			return nil
		}
		switch number {
		case requestHead, responseHead, requestTrailer, responseTrailer:
			m.kind = number
			return m.parseHead(value)
		case requestBody, responseBody:
			m.kind = number
			return m.parseBody(value)
		case attributesField:
			return m.parseAttributes(value)
		}
		return nil
	})
}

// parseHead reads HttpHeaders or HttpTrailers.
func (m *incoming) parseHead(b []byte) error {
	return each(b, func(number kind, value []byte, scalar uint64) error {
		switch number {
		case 1:
			return each(value, func(number kind, value []byte, _ uint64) error {
				if number == 1 {
					return m.parseField(value)
				}
				return nil
			})
		case 3:
			m.ends = scalar != 0
		}
		return nil
	})
}

// parseField reads a HeaderValue.
func (m *incoming) parseField(b []byte) error {
	var f filters.Field
	err := each(b, func(number kind, value []byte, _ uint64) error {
		switch number {
		case 1:
			f.Name = filters.Alias(value)
		case 2, 3:
			if len(value) > 0 { // the other one is empty
				f.Value = filters.Alias(value)
			}
		}
		return nil
	})
	m.fields = append(m.fields, f)
	return err
}

// parseBody reads HttpBody.
func (m *incoming) parseBody(b []byte) error {
	return each(b, func(number kind, value []byte, scalar uint64) error {
		switch number {
		case 1:
			m.body = value
		case 2:
			m.ends = scalar != 0
		}
		return nil
	})
}

// parseAttributes reads an entry of the map of attributes: a name, and a Struct.
func (m *incoming) parseAttributes(b []byte) error {
	return each(b, func(number kind, value []byte, _ uint64) error {
		if number != 2 {
			return nil
		}
		return each(value, func(number kind, value []byte, _ uint64) error {
			if number == 1 {
				return m.parseAttribute(value)
			}
			return nil
		})
	})
}

// parseAttribute reads an entry of a Struct: a name, and a Value.
func (m *incoming) parseAttribute(b []byte) error {
	var name, text string
	var amount float64
	err := each(b, func(number kind, value []byte, _ uint64) error {
		switch number {
		case 1:
			name = filters.Alias(value)
		case 2:
			return each(value, func(number kind, value []byte, scalar uint64) error {
				switch number {
				case 2:
					amount = math.Float64frombits(scalar)
				case 3:
					text = filters.Alias(value)
				}
				return nil
			})
		}
		return nil
	})
	switch a := &m.attributes; name {
	case "source.address":
		a.source = text
	case "request.protocol":
		a.protocol = text
	case "response.code_details":
		a.details = text
	case "response.flags":
		if amount > 0 && amount < 1<<63 {
			a.flags = uint64(amount)
		}
	case "upstream.request_attempt_count":
		a.attempts = amount
	}
	return err
}

// each calls do for the fields of a message, in their order: value is that of a field with a length, and not
// nil, scalar that of any other.
func each(b []byte, do func(number kind, value []byte, scalar uint64) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		var value []byte
		var scalar uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			scalar, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			scalar, n = protowire.ConsumeFixed64(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if err := do(number, value, scalar); err != nil {
			return err
		}
	}
	return nil
}
