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
	block     []byte // a head that comes in several frames
	blockID   uint32 // 0 is none
	blockEnd  bool   // it ends its stream
	fragments int    // that have come
}

func (d *headDecoder) init(listMax int) {
	d.listMax = listMax
	d.decoder = hpack.NewDecoder(tableSizeFirst, d.field)
}

// begin readies the decoder for a head.
func (d *headDecoder) begin(end bool) {
	d.fields, d.listLeft, d.tooLong, d.blockEnd = d.fields[:0], d.listMax, false, end
	d.decoder.SetEmitEnabled(true)
}

// field takes a decoded field. Beyond the limit the rest is decoded for the sake of the table only.
func (d *headDecoder) field(f hpack.HeaderField) {
	d.listLeft -= len(f.Name) + len(f.Value) + 4 // as a line of HTTP/1.1
	if d.listLeft < 0 || len(d.fields) >= message.FieldsMax+8 {
		d.tooLong = true
		d.decoder.SetEmitEnabled(false)
		return
	}
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
