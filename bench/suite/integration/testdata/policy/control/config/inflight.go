package config

// Inflight bounds the requests that a service has to work on at once.
type Inflight struct {
	Max int `json:"max" jsonschema:"minimum=1,maximum=1000000"`
}

func (Inflight) describe() descriptions {
	return descriptions{"": "Bounds the requests at once.", "Max": "Beyond so many a request is refused."}
}

func (i *Inflight) setDefaults() { i.Max = 64 }
