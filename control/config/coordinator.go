package config

// Coordinator is the DTM cluster.
type Coordinator struct {
	DTM DTM `json:"dtm" jsonschema:"required"`
}

func (Coordinator) describe() descriptions {
	return descriptions{
		"":    "The DTM cluster that runs the transactions.",
		"DTM": "DTM.",
	}
}

// DTM is where the coordinator listens, and where it calls the branches through the gateway.
type DTM struct {
	Endpoints []string `json:"endpoints" jsonschema:"minItems=1,uniqueItems=true" config:"url"`
	Branches  string   `json:"branches" config:"example=127.0.0.1:8081,mapping=listen and advertise"`

	Secret *Unsupported `json:"secret"`
	Name   *Unsupported `json:"name"`
}

func (DTM) describe() descriptions {
	return descriptions{
		"Endpoints": "http://host:port of DTM.",
		"Branches":  "host:port where DTM calls the branches through the gateway.",
		"Secret":    "Signs branch calls.",
		"Name":      "This deployment, for gateways that share a coordinator with others.",
	}
}

func (d *DTM) setDefaults() {
	*d = DTM{Endpoints: []string{"http://127.0.0.1:36789"}, Branches: "127.0.0.1:8081"}
}

// check checks where DTM is: the client for it speaks plain HTTP over TCP.
func (d *DTM) check(s site) {
	for i, written := range d.Endpoints {
		e, err := parseEndpoint(written)
		switch {
		case err != nil:
			s.fault(s.at("endpoints").item(i), "%q %v", written, err)
		case e.TLS || e.HTTP2 || e.Network != "tcp":
			s.fault(s.at("endpoints").item(i), "%q is not http://host:port, and anything else to the coordinator is %s",
				written, notSupported)
		}
	}
}
