package config

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// checker looks for what the schema cannot see. Each fault is said of a path; on a path that is at fault already nothing
// more is said, and a check that needs several values asks sound for them first.
type checker struct {
	c      *Config
	root   *node
	faults *faultList
}

// check adds all semantic faults.
func check(c *Config, root *node, faults *faultList) {
	k := &checker{c, root, faults}
	k.addresses()
	k.store()
	k.identity()
	for _, name := range sortedKeys(c.Services) {
		k.service(c.Services[name], at("services", name))
	}
	for _, name := range sortedKeys(c.Limits) {
		k.limit(c.Limits[name], at("limits", name))
	}
	names := map[string]int{}
	for i, r := range c.Routes {
		if r != nil {
			k.route(r, at("routes", strconv.Itoa(i)), names, i)
		}
	}
	for _, name := range sortedKeys(c.Transactions) {
		k.transaction(name, c.Transactions[name], at("transactions", name))
	}
	if c.Coordinator != nil {
		k.coordinator(c.Coordinator.DTM.Endpoints, at("coordinator", "dtm", "endpoints"))
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// path is a way into the tree.
type path []string

func at(steps ...string) path { return steps }

// to goes deeper; the path itself stays as it is.
func (p path) to(steps ...string) path { return slices.Concat(p, steps) }

func (p path) item(i int) path { return p.to(strconv.Itoa(i)) }

// fault says what is wrong with the value at a path, unless it or a parent is at fault already.
func (k *checker) fault(p path, format string, args ...any) {
	s := k.root.find(p...)
	if s.broken {
		return
	}
	message := fmt.Sprintf(format, args...)
	if s.node != nil && s.node.secret {
		k.faults.add(s.at, "%s: what was filled in is not right here", s.name)
		return
	}
	k.faults.add(s.at, "%s: %s", s.name, message)
}

// sound reports whether none of the paths is at fault already.
func (k *checker) sound(paths ...path) bool {
	return !slices.ContainsFunc(paths, func(p path) bool { return k.root.find(p...).broken })
}

// written reports whether a value stands in the documents.
func (k *checker) written(p path) bool { return k.root.find(p...).node != nil }

// among returns which of the names are members of a mapping, in the order of the document.
func (k *checker) among(p path, names ...string) []string {
	var found []string
	if s := k.root.find(p...); s.node != nil {
		for _, m := range s.node.members {
			if slices.Contains(names, m.name) {
				found = append(found, m.name)
			}
		}
	}
	return found
}

// addresses checks the listeners' addresses, and that no two need the same port.
func (k *checker) addresses() {
	type listener struct {
		at         path
		host, port string
	}
	var seen []listener
	add := func(address string, p path) {
		host, port, err := hostPort(address)
		if err != nil {
			k.fault(p, "%q is not an address to listen on such as 127.0.0.1:8080: %v", address, err)
			return
		}
		for _, other := range seen {
			same := host == other.host || anyHost(host) || anyHost(other.host)
			if port != "0" && port == other.port && same && k.sound(p, other.at) {
				k.fault(p, "%s is taken by %s", address, k.root.find(other.at...).name)
				return
			}
		}
		seen = append(seen, listener{p, host, port})
	}
	add(k.c.Listen.HTTP, at("listen", "http"))
	if k.c.Listen.HTTPS != nil {
		add(k.c.Listen.HTTPS.Address, at("listen", "https", "address"))
	}
	add(k.c.Admin.Address, at("admin", "address"))
	if k.c.Coordinator != nil {
		add(k.c.Coordinator.DTM.Branches, at("coordinator", "dtm", "branches"))
	}
}

func anyHost(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

// hostPort splits an address; the port is a number from 0 to 65535.
func hostPort(address string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(address)
	if e, ok := err.(*net.AddrError); ok {
		return "", "", fmt.Errorf("%s", e.Err)
	}
	if err != nil {
		return "", "", err
	}
	if !soundPort(port) {
		return "", "", fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	if strings.ContainsAny(host, " /?#@%\t") {
		return "", "", fmt.Errorf("host %q is not a name or an address", host)
	}
	return host, port, nil
}

func soundPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == port
}

func (k *checker) store() {
	members := k.among(at("store"), "embedded", "redis", "memory")
	if len(members) > 1 {
		k.fault(at("store", members[1]), "a store is exactly one of embedded, redis and memory, and %s stands here too", members[0])
	}
	if r := k.c.Store.Redis; r != nil {
		for i, address := range r.Addresses {
			host, port, err := hostPort(address)
			if err == nil && (host == "" || port == "0") {
				err = fmt.Errorf("host and port are needed")
			}
			if err != nil {
				k.fault(at("store", "redis", "addresses").item(i), "%q is not an address such as 127.0.0.1:6379: %v", address, err)
			}
		}
		if strings.ContainsAny(r.KeyPrefix, "{}") {
			k.fault(at("store", "redis", "keyPrefix"), "%q has a brace, by which a cluster finds the part of a key that says where it lies", r.KeyPrefix)
		}
		if len(r.Addresses) > 1 && r.Sentinel == nil && !r.Cluster {
			k.fault(at("store", "redis", "addresses"), "has %d addresses: more than one are those of a cluster (cluster: true) or of sentinels (sentinel)", len(r.Addresses))
		}
		if r.Sentinel != nil && r.Cluster {
			k.fault(at("store", "redis", "sentinel"), "a cluster finds its masters itself: sentinel and cluster: true do not go together")
		}
	}
	if e := k.c.Store.Encryption; e != nil {
		for i, key := range e.Keys {
			if b, err := parseKey(key); err != nil {
				k.fault(at("store", "encryption", "keys").item(i), "is not a key in base64") // without the key
			} else if len(b) != encryptionKeyBytes {
				k.fault(at("store", "encryption", "keys").item(i), "has %d bytes, a key has %d", len(b), encryptionKeyBytes)
			}
		}
	}
}

const encryptionKeyBytes = 32

// parseKey reads a key in base64, of either alphabet, padded or not.
func parseKey(s string) ([]byte, error) {
	s = strings.TrimRight(strings.TrimSpace(s), "=")
	if strings.ContainsAny(s, "-_") {
		return base64.RawURLEncoding.DecodeString(s)
	}
	return base64.RawStdEncoding.DecodeString(s)
}

// ParsedKeys returns the keys; nil without encryption. The configuration has been checked.
func (e *Encryption) ParsedKeys() [][]byte {
	if e == nil {
		return nil
	}
	keys := make([][]byte, len(e.Keys))
	for i, key := range e.Keys {
		keys[i], _ = parseKey(key) // checked
	}
	return keys
}

func (k *checker) identity() {
	for i := range k.c.Identity {
		p := at("identity").item(i)
		members := k.among(p, "jwt", "header", "clientIP")
		switch {
		case len(members) == 0 && k.written(p):
			k.fault(p, "is none of jwt, header and clientIP")
		case len(members) > 1:
			k.fault(p.to(members[1]), "an entry is exactly one of jwt, header and clientIP, and %s stands here too", members[0])
		}
	}
}

// coordinator checks where DTM is: the client for it speaks plain HTTP over TCP.
func (k *checker) coordinator(endpoints []string, p path) {
	for i, written := range endpoints {
		e, err := parseEndpoint(written)
		switch {
		case err != nil:
			k.fault(p.item(i), "%q %v", written, err)
		case e.TLS || e.HTTP2 || e.Network != "tcp":
			k.fault(p.item(i), "%q is not http://host:port, and anything else to the coordinator is %s", written, notSupported)
		}
	}
}

func (k *checker) limit(l *Limit, p path) {
	for i, r := range l.Per {
		k.ref(r, p.to("per").item(i), nil)
	}
}

// ref checks a reference outside a transaction. params are the segments that the path has; nil leaves that to whoever knows
// the path.
func (k *checker) ref(r ref.Ref, p path, params []string) {
	switch {
	case r.Root == ref.GID:
		k.fault(p, "gid is known in the steps of a transaction only")
	case r.Root == ref.Steps:
		k.fault(p, "%s is known in the steps of a transaction only", r)
	case r.Root == ref.Key:
		k.fault(p, "key is known in the path of a probe only")
	case params != nil && lacks(r, params):
		k.fault(p, "%s: the route's path has no {%s}", r, r.Path[0])
	}
}

// lacks reports whether a reference names a segment that is not among the parameters.
func lacks(r ref.Ref, params []string) bool {
	return r.Root == ref.Path && len(r.Path) > 0 && !slices.Contains(params, r.Path[0])
}
