package config

import (
	"slices"
	"strconv"
	"strings"
)

// Bounds of a configuration, so that no text makes a gateway that reloads it run out of memory, or of time. Each is
// looked at before what it bounds is made, and says where it was passed.
const (
	documentMax  = 1 << 20  // bytes of one document, and of a file that is referred to
	documentsMax = 8 << 20  // bytes of all documents of a folder
	composedMax  = 8 << 20  // bytes of the JSON of all documents, aliases written out
	valuesMax    = 100_000  // values of one document, with aliases and merge keys written out
	valuesAllMax = 500_000  // and of all documents
	flowDepthMax = 64       // nested flow collections, and as many nested block collections around them
	depthMax     = 128      // nested collections, with aliases written out
	keyMax       = 1 << 10  // bytes of a key
	expandMax    = 64 << 10 // bytes of a file that a value is expanded to
	expandAllMax = 1 << 20  // bytes of all that values are expanded to
	filesMax     = 4096     // files that are referred to
	filesAllMax  = 32 << 20 // bytes of them
	faultsMax    = 1000     // faults that are told
	knownMax     = 500      // names that one is compared with, to say which was meant
)

// place is the path of a value as it is shown, routes[2].match, written out only when it is. Nil is the configuration.
type place struct {
	parent *place
	name   string
	index  int // of a list, where the name is empty
}

func (p *place) member(name string) *place { return &place{parent: p, name: name} }

func (p *place) item(index int) *place { return &place{parent: p, index: index} }

func (p *place) String() string {
	var steps []*place
	for ; p != nil; p = p.parent {
		steps = append(steps, p)
	}
	var b strings.Builder
	for i := len(steps) - 1; i >= 0; i-- {
		switch s := steps[i]; {
		case s.name == "":
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		case b.Len() > 0:
			b.WriteString("." + s.name)
		default:
			b.WriteString(s.name)
		}
	}
	return b.String()
}

// away reports whether a value of a document is the gateway's, and not the control plane's own.
func (p *place) away() bool {
	for p.parent != nil {
		p = p.parent
	}
	return !slices.Contains(controlSections, p.name)
}
