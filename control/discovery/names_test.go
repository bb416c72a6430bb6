package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sluice-gateway/sluice/control/config"
)

// directory is a resolver whose answers the test sets.
type directory struct {
	names   map[string]string // addresses, or "absent", "broken"
	records []*net.SRV
	err     error // of records
}

var errBroken = &net.DNSError{Err: "server misbehaving", IsTemporary: true}

func (d *directory) LookupNetIP(_ context.Context, _, host string) (list []netip.Addr, err error) {
	switch answer := d.names[host]; answer {
	case "", "absent":
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	case "broken":
		return nil, errBroken
	default:
		for _, a := range strings.Fields(answer) {
			list = append(list, netip.MustParseAddr(a))
		}
	}
	return list, nil
}

func (d *directory) LookupSRV(_ context.Context, service, proto, _ string) (string, []*net.SRV, error) {
	if service != "" || proto != "" {
		return "", nil, fmt.Errorf("looked up as %s %s", service, proto)
	}
	return "", d.records, d.err
}

// lookedUp is a name, and how its lookups go on.
type lookedUp struct {
	t *testing.T
	d *directory
	n *names
	r *record
}

func (l *lookedUp) look(want, fault string) {
	l.t.Helper()
	l.n.look(l.t.Context(), l.r)
	if fmt.Sprint(l.r.list) != want || (l.r.err == nil) != (fault == "") ||
		l.r.err != nil && !strings.Contains(l.r.err.Error(), fault) {
		l.t.Fatalf("%v, %v; want %s, %s", l.r.list, l.r.err, want, fault)
	}
}

func newLookedUp(t *testing.T, dns config.EndpointsFromDNS) *lookedUp {
	d := &directory{names: map[string]string{}}
	from := &config.EndpointsFrom{Scheme: "http", DNS: &dns}
	return &lookedUp{t, d, &names{from: from, every: time.Second, resolver: d}, new(record)}
}

// TestName: a lookup that fails changes nothing; that there is no such name is believed at the third time.
func TestName(t *testing.T) {
	t.Parallel()
	l := newLookedUp(t, config.EndpointsFromDNS{Name: "a.internal.", Port: 80})
	l.d.names["a.internal."] = "broken"
	l.look("[]", "server misbehaving")
	l.d.names["a.internal."] = "10.0.0.2 ::ffff:10.0.0.1 2001:db8::1"
	l.look("[10.0.0.1:80 10.0.0.2:80 [2001:db8::1]:80]", "")
	if l.r.hosts[0] != "a.internal:80" {
		t.Errorf("host %s: a certificate has the name", l.r.hosts[0])
	}
	for range 10 {
		l.d.names["a.internal."] = "broken"
		l.look("[10.0.0.1:80 10.0.0.2:80 [2001:db8::1]:80]", "server misbehaving")
	}
	l.d.names["a.internal."] = "absent"
	l.look("[10.0.0.1:80 10.0.0.2:80 [2001:db8::1]:80]", "no such host")
	l.look("[10.0.0.1:80 10.0.0.2:80 [2001:db8::1]:80]", "believed when 3 lookups")
	l.d.names["a.internal."] = "broken" // the row is broken
	l.look("[10.0.0.1:80 10.0.0.2:80 [2001:db8::1]:80]", "server misbehaving")
	l.d.names["a.internal."] = "absent"
	l.look("[10.0.0.1:80 10.0.0.2:80 [2001:db8::1]:80]", "no such host")
	l.look("[10.0.0.1:80 10.0.0.2:80 [2001:db8::1]:80]", "no such host")
	l.look("[]", "")
	if !strings.Contains(l.r.note, "no such host") {
		t.Errorf("note %q", l.r.note)
	}
	l.look("[]", "")
	l.d.names["a.internal."] = "10.0.0.9"
	l.look("[10.0.0.9:80]", "")
}

// TestRecords: the lowest priority with an address counts; a target that cannot be looked up keeps what it had.
func TestRecords(t *testing.T) {
	t.Parallel()
	l := newLookedUp(t, config.EndpointsFromDNS{Name: "_http._tcp.a.internal", SRV: true})
	l.d.records = []*net.SRV{
		{Target: "backup.", Port: 9, Priority: 20}, {Target: "a.", Port: 1, Priority: 10, Weight: 5},
		{Target: "b.", Port: 2, Priority: 10}, {Target: "a.", Port: 3, Priority: 10},
	}
	l.d.names = map[string]string{"a.": "10.0.0.1", "b.": "10.0.0.2 2001:db8::2", "backup.": "10.0.0.9"}
	l.look("[10.0.0.1:1 10.0.0.1:3 10.0.0.2:2 [2001:db8::2]:2]", "")
	if l.r.hosts[0] != "a:1" {
		t.Errorf("host %s", l.r.hosts[0])
	}
	l.d.names["b."] = "broken"
	l.d.names["a."] = "10.0.0.7"
	l.look("[10.0.0.2:2 10.0.0.7:1 10.0.0.7:3 [2001:db8::2]:2]", "")
	if !strings.Contains(l.r.note, "server misbehaving") {
		t.Errorf("note %q", l.r.note)
	}
	l.d.names["b."] = "absent"
	l.look("[10.0.0.7:1 10.0.0.7:3]", "")
	l.d.names["a."] = "absent"
	l.look("[10.0.0.9:9]", "") // the next priority
	l.d.names["backup."] = "absent"
	l.look("[10.0.0.9:9]", "no target has an address")
	l.look("[10.0.0.9:9]", "no target has an address")
	l.look("[]", "")
	l.d.names["a."] = "10.0.0.1"
	l.look("[10.0.0.1:1 10.0.0.1:3]", "")
	l.d.err = errBroken
	l.look("[10.0.0.1:1 10.0.0.1:3]", "server misbehaving")
	l.d.err, l.d.records = nil, []*net.SRV{{Target: "."}}
	l.look("[]", "") // RFC 2782: there is no such service
	l.d.records = nil
	for i := range targetsMax + 10 {
		l.d.records = append(l.d.records, &net.SRV{Target: "a.", Port: uint16(i + 1)})
	}
	l.n.look(t.Context(), l.r)
	if len(l.r.list) != targetsMax || !strings.Contains(l.r.note, "110 SRV records") {
		t.Errorf("%d endpoints, note %q", len(l.r.list), l.r.note)
	}
	l.d.names["a."] = "fe80::1%eth0"
	l.n.look(t.Context(), l.r)
	if l.r.err == nil {
		t.Error("an address with a zone is taken")
	}
}

func TestNameIsWatched(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Resolver: &directory{names: map[string]string{"a.internal": "10.0.0.1"}}})
	b.Configure(services(t, "  a: {dns: 100ms, endpointsFrom: {dns: {name: a.internal, port: 80}}}"))
	b.want("a", "10.0.0.1:80")
}

// TestAbsenceInDNS: what is believed to be an authoritative answer is what a server says, and not that it fails.
func TestAbsenceInDNS(t *testing.T) {
	t.Parallel()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		answerNames(server)
	}()
	t.Cleanup(func() { server.Close(); <-ended })
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
	for name, want := range map[string]bool{
		"nxdomain.test.": true, "nodata.test.": true, "servfail.test.": false, "refused.test.": false,
	} {
		_, err := resolver.LookupNetIP(t.Context(), "ip", name)
		if err == nil || isAbsent(err) != want {
			t.Errorf("%s: %v is taken for an authoritative answer: %v", name, err, isAbsent(err))
		}
		_, _, err = resolver.LookupSRV(t.Context(), "", "", name)
		if err == nil || isAbsent(err) != want {
			t.Errorf("SRV of %s: %v is taken for an authoritative answer: %v", name, err, isAbsent(err))
		}
	}
	if isAbsent(errors.New("no such host")) || isAbsent(&net.DNSError{IsTimeout: true, IsNotFound: true}) {
		t.Error("what is no answer is taken for one")
	}
}

// answerNames answers as the name asks for, until the connection is closed.
func answerNames(c net.PacketConn) {
	buffer := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buffer)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buffer[:n]) != nil || len(m.Questions) == 0 {
			continue
		}
		m.Response, m.Authoritative, m.RecursionAvailable, m.Additionals = true, true, true, nil
		switch name := m.Questions[0].Name.String(); {
		case strings.HasPrefix(name, "nxdomain"):
			m.RCode = dnsmessage.RCodeNameError
		case strings.HasPrefix(name, "servfail"):
			m.RCode = dnsmessage.RCodeServerFailure
		case strings.HasPrefix(name, "refused"):
			m.RCode = dnsmessage.RCodeRefused
		}
		if b, err := m.Pack(); err == nil {
			_, _ = c.WriteTo(b, from) // the client asks again
		}
	}
}
