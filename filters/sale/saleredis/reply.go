package saleredis

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale"
)

// reader reads a reply. One that is too short becomes [tooShort] and reads as zeros.
type reader string

const (
	tooShort reader = "\xffshort"
	// isNew is the reply of [takeScript] for an item that is new and is to be divided.
	isNew reader = "C"
	// notDivided is the reply of [grantScript] for an item that is not divided.
	notDivided reader = "U"
	// formKnown is the form of divided items that this gateway knows.
	formKnown = 1
)

func errReply(what string) error { return fmt.Errorf("saleredis: %s: the reply is malformed", what) }

func (r *reader) take(n int) reader {
	if len(*r) < n || *r == tooShort {
		*r = tooShort
		return ""
	}
	head := (*r)[:n]
	*r = (*r)[n:]
	return head
}

func (r *reader) uint(n int) (v uint64) {
	for _, c := range []byte(r.take(n)) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (r *reader) byte() byte { return byte(r.uint(1)) }

func (r *reader) int() int { return int(r.uint(8)) }

func (r *reader) text() string { return string(r.take(int(r.uint(2)))) }

func (r *reader) counts() sale.Counts {
	return sale.Counts{
		Taken: r.int(), Confirmed: r.int(), Unknown: r.int(), Returned: r.int(), Version: r.uint(8),
	}
}

// end returns an error when the reply was too short, or something is left of it.
func (r *reader) end(what string) error {
	if *r != "" {
		return errReply(what)
	}
	return nil
}

// divided reports whether the reply says that the item is divided, and into how many parts.
func (r reader) divided() (parts int, ok bool, err error) {
	if len(r) != 3 || r[0] != 'S' {
		return 0, false, nil
	}
	if form := r[1]; form != formKnown || r[2] == 0 {
		return 0, true, fmt.Errorf("saleredis: the item is divided in form %d, and this gateway knows form %d: "+
			"update it", form, formKnown)
	}
	return int(r[2]), true, nil
}

// taking reads the reply of [takeScript] without the flags of a part.
func (r *reader) taking() (out sale.Taking, replicas byte) {
	out.Verdict, out.New = sale.Verdict(r.byte()), r.byte() == 1
	replicas = r.byte()
	out.Counts = r.counts()
	return out, replicas
}

// units reads a list of units that was asked for at that time.
func (r reader) units(asked time.Time) (out []sale.Unit, err error) {
	there := int64(r.uint(8))
	for len(r) > 0 {
		if r == tooShort {
			return nil, errReply("listing")
		}
		u := sale.Unit{ID: r.text(), State: sale.State(r.byte())}
		u.Quantity, u.Past = int(r.uint(4)), int(r.uint(4))
		u.Token, u.Created = r.uint(8), int64(r.uint(8))
		age := time.Duration(there-int64(r.uint(8))) * time.Microsecond
		u.Taken = asked.Add(-age) // so that it does not matter how Redis's clock differs from this one
		u.TTL = time.Duration(r.uint(8)) * time.Microsecond
		u.Principal = strings.Clone(string(r.take(sale.PrincipalDigestLength)))
		if r == tooShort {
			return nil, errReply("listing")
		}
		out = append(out, u)
	}
	return out, nil
}

// changes reads numbers, the version up to which IDs are complete, and the IDs.
func (r reader) changes() (c sale.Counts, until uint64, ids []string, err error) {
	c, until = r.counts(), r.uint(8)
	for len(r) > 0 {
		ids = append(ids, r.text())
		if r == tooShort {
			return sale.Counts{}, 0, nil, errReply("changes")
		}
	}
	return c, until, ids, nil
}
