package config

// Admin is the operators' address.
type Admin struct {
	Address string `json:"address" config:"example=127.0.0.1:9901"`
	PProf   bool   `json:"pprof"` // serve /debug/pprof/ there
	// ReadyNeedsStore: /readyz fails while the store does, and not only until it was reached once.
	ReadyNeedsStore bool `json:"readyNeedsStore"`
}

func (Admin) describe() descriptions {
	return descriptions{
		"":        "The operators' address.",
		"Address": "host:port for health, metrics, status and record operations; keep it on loopback.",
		"ReadyNeedsStore": "Unready whenever the store fails. Without it a store that fails after the start shows in " +
			"status and metrics: else one fault takes the whole fleet out of its balancer.",
		"PProf": "Serve Go's profiles below /debug/pprof/. " +
			"They show what the gateway does, and cost while they are taken.",
	}
}

func (a *Admin) setDefaults() { a.Address = "127.0.0.1:9901" }
