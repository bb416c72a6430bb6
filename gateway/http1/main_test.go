package http1

import (
	"bytes"
	"io"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/rawhttp"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/gateway/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// caseFiles hold the raw cases that the fuzzers begin with.
var caseFiles = [...]string{"../../bench/kit/rawhttp/cases.json", "../../bench/kit/rawhttp/cases-more.json"}

// seeds calls add with what the clients of the raw cases send, or with what their services answer.
func seeds(f *testing.F, responses bool, add func([]byte)) {
	f.Helper()
	for _, file := range caseFiles {
		cases, err := rawhttp.Load(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, c := range cases {
			script := c.Raw
			if responses {
				script = c.UpstreamResp
			}
			var raw []byte
			for _, part := range script {
				raw = append(raw, part.Bytes...)
			}
			if len(raw) > 0 && len(raw) <= 4<<10 { // the mutator gets nowhere with long ones
				add(raw)
			}
		}
	}
}

// pieces is a reader that gives at most size bytes at a time.
type pieces struct {
	b    []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.b[:min(p.size, len(p.b))])
	p.b = p.b[n:]
	return n, nil
}

// read is what a body gave.
type read struct {
	bytes, rest []byte // releaseBuffers is what lies behind the body
	trailer     string
	err         error
}

// readBody reads a body of that length from raw, of which the first ahead bytes lie in the buffer
// already and the others come in pieces.
func readBody(raw []byte, length int64, ahead, size, into int, nominated string) read {
	var in buffer
	in.take(make([]byte, max(message.SmallBuffer, ahead)), nil)
	in.w = copy(in.b, raw[:ahead])
	from := &pieces{bytes.Clone(raw[ahead:]), size}
	var b body
	b.begin(&in, from, length, nominated)
	var r read
	p := make([]byte, into)
	for {
		n, err := b.Read(p)
		r.bytes = append(r.bytes, p[:n]...)
		if err != nil {
			r.err = err
			break
		}
	}
	for _, f := range b.trailer {
		r.trailer += f.Name + "=" + f.Value + "\n"
	}
	r.rest = append(bytes.Clone(in.unread()), from.b...)
	return r
}
