package http2

import (
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// headDecoder decodes heads, one at a time. It belongs to the goroutine that reads.
type headDecoder struct {
	decoder   *hpack.Decoder
	fields    filters.Header // of the head that is being decoded
	listLeft  int            // bytes that it may still have
	listMax   int
	tooLong   bool
	regular   int    // fields of it, but those that are the lines of a request or a status
	size      int    // of the fields, as RFC 9113 §6.5.2 counts it
	block     []byte // a head that comes in several frames
	blockID   uint32 // 0 is none
	blockEnd  bool   // it ends its stream
	fragments int    // that have come
	counted   int    // bytes of block
}

const (
	fieldOverhead = 32 // RFC 9113 §6.5.2; also what a [filters.Field] takes beside its bytes
	pseudoMax     = 8  // more than there are
)

func (d *headDecoder) init(listMax int) {
	d.listMax = listMax
	d.decoder = hpack.NewDecoder(tableSizeFirst, d.field)
}

// begin readies the decoder for a head.
func (d *headDecoder) begin(end bool) {
	d.fields, d.listLeft, d.tooLong, d.blockEnd = d.fields[:0], d.listMax, false, end
	d.regular, d.size = 0, 0
	d.decoder.SetEmitEnabled(true)
}

// field takes a decoded field. Beyond the limits, which are those of HTTP/1.1, the rest is decoded
// for the sake of the table only.
func (d *headDecoder) field(f hpack.HeaderField) {
	d.listLeft -= len(f.Name) + len(f.Value) + 4 // as a line of HTTP/1.1
	if !f.IsPseudo() || f.Name == ":authority" { // which is a Host field elsewhere
		d.regular++
	}
	if d.listLeft < 0 || d.regular > message.FieldsMax || len(d.fields) > message.FieldsMax+pseudoMax {
		d.tooLong = true
		d.decoder.SetEmitEnabled(false)
		return
	}
	d.size += len(f.Name) + len(f.Value) + fieldOverhead
	d.fields = append(d.fields, filters.Field{Name: f.Name, Value: f.Value})
}

func (d *headDecoder) decode(block []byte) error {
	if _, err := d.decoder.Write(block); err != nil {
		return connError{compressionError, err.Error()}
	}
	if err := d.decoder.Close(); err != nil {
		return connError{compressionError, err.Error()}
	}
	return nil
}
