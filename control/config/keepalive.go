package config

import "time"

// KeepAlive is how long connections to a service are kept.
type KeepAlive struct {
	// Idle is at most MaxAge; default: 55s, or MaxAge where that is less.
	Idle   Duration `json:"idle" config:"min=100ms,max=24h"`
	MaxAge Duration `json:"maxAge" config:"min=1s,max=24h"`
}

func (KeepAlive) describe() descriptions {
	return descriptions{
		"": "How long connections to the service are kept.",
		"Idle": "How long one is kept that is not in use, at most maxAge; 55s or maxAge, whichever is less, unless " +
			"written. A shorter Keep-Alive: timeout= of the service wins.",
		"MaxAge": "How old one becomes, 1s to 24h; it ends behind the request that it carries by then.",
	}
}

const idleDefault = 55 * time.Second // shorter than the 60 to 75 s at which most servers close

func (k *KeepAlive) setDefaults() { k.MaxAge = duration(5 * time.Minute) }

func (k *KeepAlive) derive(*files) {
	if k.Idle == 0 {
		k.Idle = min(duration(idleDefault), k.MaxAge)
	}
}

func (k *KeepAlive) check(s site) {
	if k.Idle > k.MaxAge && s.sound(s.at("idle"), s.at("maxAge")) {
		s.fault(s.firstWritten(s.at("idle"), s.at("maxAge")), "idle %s is more than maxAge %s", k.Idle, k.MaxAge)
	}
}
