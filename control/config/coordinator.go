package config

import (
	"net/url"
	"strings"

	"github.com/invopop/jsonschema"
)

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
	Branches  Branches `json:"branches"`
	Secret    string   `json:"secret" config:"secret"` // signs branch calls; empty: one that the store keeps
	Name      string   `json:"name" jsonschema:"pattern=^[a-z0-9._-]+$,maxLength=64"`
}

func (DTM) describe() descriptions {
	return descriptions{
		"Endpoints": "http://host:port of DTM.",
		"Branches":  "Where DTM calls the branches through the gateway.",
		"Secret": "Signs branch calls; set it with ${file:PATH}, the same in every gateway. Without it one is " +
			"made and kept in the store, and with the store it is lost.",
		"Name": "Names this deployment in its transactions, for gateways that share a coordinator with others.",
	}
}

func (d *DTM) setDefaults() { d.Endpoints = []string{"http://127.0.0.1:36789"} }

// secretBytesMin is how short a secret may be: a shorter one can be found by trying.
const secretBytesMin = 16

// Branches is the branch address: where the gateway listens, and where DTM finds it.
type Branches struct {
	Listen    string `json:"listen" config:"example=127.0.0.1:8081"`
	Advertise string `json:"advertise"` // empty: the host of listen with the port that was found
}

func (Branches) describe() descriptions {
	return descriptions{
		"Listen":    "host:port where the gateway listens for DTM.",
		"Advertise": "http://host:port where DTM reaches it; without it the address of listen.",
	}
}

func (b *Branches) setDefaults() { b.Listen = "127.0.0.1:8081" }

func (b *Branches) form() unionForm {
	members := jsonschema.NewProperties()
	for _, name := range []string{"Listen", "Advertise"} {
		members.Set(strings.ToLower(name), &jsonschema.Schema{Type: "string", Description: b.describe()[name]})
	}
	return unionForm{
		text: true, want: `host:port or {listen: ":8081", advertise: "http://gateway.internal:8081"}`,
		value: &jsonschema.Schema{Type: "object", Properties: members, AdditionalProperties: jsonschema.FalseSchema},
	}
}

func (b *Branches) setWord(address string) { *b = Branches{Listen: address} }
func (b *Branches) value() any             { return nil }

func (b *Branches) word() string {
	if b.Advertise == "" {
		return b.Listen
	}
	return ""
}

func (b *Branches) check(s site) {
	if b.Advertise == "" {
		return
	}
	u, err := url.Parse(b.Advertise)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" ||
		u.Fragment != "" || u.User != nil {
		s.fault(s.at("advertise"), "%q is not http://host:port", b.Advertise)
	}
}

// check checks where DTM is: the client for it speaks plain HTTP over TCP.
func (d *DTM) check(s site) {
	if n := len(d.Secret); n > 0 && n < secretBytesMin {
		s.fault(s.at("secret"), "has %d bytes, want at least %d", n, secretBytesMin)
	}
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
