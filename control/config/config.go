package config

// Config is one whole configuration, complete: every default is set, every reference parsed, every secret in place.
// It is a value that is not changed after [Load].
//
// The tags are read three ways: `json` names the key, `jsonschema` becomes the JSON Schema that the decoder itself
// checks documents with, and `config` has the rules that a schema cannot have (see rulesOf).
type Config struct {
	Version      int                     `json:"version" jsonschema:"required,enum=1" config:"same"`
	Listen       Listen                  `json:"listen"`
	Admin        Admin                   `json:"admin"`
	Envoy        Envoy                   `json:"envoy"`
	Store        Store                   `json:"store"`
	Services     map[string]*Service     `json:"services" config:"merge"`
	Routes       []*Route                `json:"routes" config:"merge"`
	Coordinator  *Coordinator            `json:"coordinator"`
	Log          Log                     `json:"log"`
	Tracing      *Tracing                `json:"tracing"`
	Transactions map[string]*Transaction `json:"transactions" config:"merge"`
	Control      *Control                `json:"control"`
	ConfigSections

	origin origin // where all this came from
}

func (Config) describe() descriptions {
	return descriptions{
		"":         "One whole configuration of a gateway.",
		"Version":  "The version of this format: 1.",
		"Services": "What stands behind the gateway, by name.",
		"Routes":   "The first that matches path and method is taken.",
	}
}

func (c *Config) derive(*files) { c.linkSales() }

// check finds what several sections do to one another.
func (c *Config) check(s site) {
	s.checkListeners(c)
	s.checkRouteNames(c)
}

func (c *Config) warn(s site) {
	c.warnUnreached(s)
	s.warnUnused()
	s.warnNobodyAsks(c)
}
