package xds

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// nodeIDMax bounds the id that a node gives itself, as that of control.nodes is.
const nodeIDMax = 256

// caller is who has opened a stream, as the transport knows it.
type caller struct {
	address string
	tls     bool     // with a certificate that was verified
	names   []string // URIs and DNS names of the certificate
	subject string   // shown to operators: the first name, or the certificate's subject
}

func callerOf(ctx context.Context) caller {
	var c caller
	p, ok := peer.FromContext(ctx)
	if !ok {
		return c
	}
	if p.Addr != nil {
		c.address = p.Addr.String()
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return c
	}
	c.tls = true
	c.names, c.subject = namesOf(info.State.VerifiedChains[0][0])
	return c
}

func namesOf(leaf *x509.Certificate) (names []string, subject string) {
	for _, u := range leaf.URIs {
		names = append(names, u.String())
	}
	for _, name := range leaf.DNSNames {
		if !strings.ContainsAny(name, ":/") { // or it could be taken for a URI
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		return names, names[0]
	}
	return nil, leaf.Subject.String()
}

// nodeRules are control.nodes: which name in a certificate may be which node.
type nodeRules map[string]string

// permit reports whether a certificate with these names may be the node id.
func (r nodeRules) permit(names []string, id string) bool {
	for pattern, of := range r {
		for _, name := range names {
			if part, ok := matchName(pattern, name); ok && permitID(of, part, id) {
				return true
			}
		}
	}
	return false
}

// matchName matches a name with a pattern; part is what its * stands for. A URI is matched with the pattern of one
// alone: in a DNS pattern the * would stand for all of its path.
func matchName(pattern, name string) (part string, ok bool) {
	if strings.Contains(name, "://") != strings.Contains(pattern, "://") {
		return "", false
	}
	separator := "/"
	if !strings.Contains(pattern, "://") {
		separator, pattern, name = ".", strings.ToLower(pattern), strings.ToLower(name)
	}
	before, behind, wild := strings.Cut(pattern, "*")
	if !wild {
		return "", pattern == name
	}
	part, ok = strings.CutPrefix(name, before)
	if !ok {
		return "", false
	}
	part, ok = strings.CutSuffix(part, behind)
	if !ok || part == "" || strings.Contains(part, separator) {
		return "", false
	}
	return part, true
}

// permitID reports whether an id is of a group, or is the one that the group makes of a part of the
// certificate's name.
func permitID(group, part, id string) bool {
	if strings.Contains(group, "*") {
		return id == strings.Replace(group, "*", part, 1)
	}
	rest, ok := strings.CutPrefix(id, group)
	return ok && (rest == "" || strings.ContainsAny(rest[:1], "-./:"))
}

// checkNode says why a caller may not be a node; nil: it may. Over a connection without certificates,
// which is one from this machine, any id is taken.
func (r nodeRules) checkNode(c caller, id string) error {
	switch {
	case id == "":
		return status.Error(codes.InvalidArgument, "the first request has no node id")
	case len(id) > nodeIDMax || strings.ContainsFunc(id, func(c rune) bool { return c <= 0x20 || c >= 0x7f }):
		return status.Errorf(codes.InvalidArgument, "the node id %.80q is not 1 to %d visible ASCII characters", id,
			nodeIDMax)
	case c.tls && !r.permit(c.names, id):
		return status.Error(codes.PermissionDenied, fmt.Sprintf(
			"the certificate of %q may not be the node %q: no line of control.nodes says so", c.subject, id))
	}
	return nil
}
