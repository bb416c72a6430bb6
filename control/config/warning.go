package config

import "fmt"

// Warning is something in a sound configuration that can never take effect, or is not what it looks like, and where it
// stands: a route behind one that takes all its requests, a limit that nothing uses.
type Warning Fault

// String returns file:line:column: warning: message.
func (w Warning) String() string {
	w.Message = "warning: " + w.Message
	return Fault(w).String()
}

// Warnings returns what can never take effect, by file and position. A configuration with warnings is sound.
func (c *Config) Warnings() []Warning { return c.origin.warnings }

// FaultAt returns a fault of a setting that names a file, in what is behind the name: a certificate that does not match
// its key. The setting is written as faults write it, listen.https.cert.
func (c *Config) FaultAt(setting, format string, args ...any) Fault {
	at := c.origin.places[setting]
	return Fault{at.file, at.line, at.column, setting + ": " + fmt.Sprintf(format, args...)}
}

// WarningAt returns a warning of a setting that names a file, as [Config.FaultAt] does.
func (c *Config) WarningAt(setting, format string, args ...any) Warning {
	return Warning(c.FaultAt(setting, format, args...))
}

// warn adds a warning about the value at a path.
func (k *checker) warn(p path, format string, args ...any) {
	l := k.root.find(p...)
	k.warnings.add(l.at, "%s: %s", l.name(), fmt.Sprintf(format, args...))
}

// use notes that a name leads to something, so that what no name leads to is known.
func (k *checker) use(key, name string) {
	if k.using != nil {
		k.using.uses = append(k.using.uses, use{key, name})
	}
	if k.used[key] == nil {
		k.used[key] = map[string]bool{}
	}
	k.used[key][name] = true
}

// unused are the mappings of which each entry is there to be named elsewhere, and what is said of one that is not.
var unused = []struct{ key, message string }{
	{"limits", "nothing uses this limit"},
	{"services", "no route and no transaction leads to this service"},
	{"transactions", "no route starts this transaction"},
}

func (k *checker) warnUnused() {
	for _, u := range unused {
		all := k.root.find(u.key)
		if all.node == nil {
			continue
		}
		for _, m := range all.node.members {
			if !k.used[u.key][m.name] {
				k.warnings.add(m.pos, "%s: %s", memberName(u.key, m.name), u.message)
			}
		}
	}
}
