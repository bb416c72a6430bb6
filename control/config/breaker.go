package config

import (
	"time"
)

// Breaker stops calls to a failing service.
type Breaker struct {
	Errors      Percent      `json:"errors"`
	Slow        *BreakerSlow `json:"slow"`
	Window      Duration     `json:"window"`
	MinRequests int          `json:"minRequests" jsonschema:"minimum=1,maximum=1000000"`
	OpenFor     Duration     `json:"openFor"`
	OpenMax     Duration     `json:"openMax"` // at least OpenFor, the default
	Probes      int          `json:"probes" jsonschema:"minimum=1,maximum=1000"`
	Ramp        Duration     `json:"ramp"` // default: OpenFor
}

func (Breaker) describe() descriptions {
	return descriptions{
		"":            "When calls are stopped for a while.",
		"Errors":      "The share of failed calls that opens the breaker.",
		"Slow":        "Opens the breaker by slow calls too.",
		"Window":      "The time that the shares are taken over.",
		"MinRequests": "With fewer calls in the window it stays closed.",
		"OpenFor": "How long it stays open before it probes, and up to a fifth longer by chance, so that the " +
			"gateways of a fleet are not in step. The nth time in a row is n times as long, at most openMax.",
		"OpenMax": "The longest that it stays open when it opens again and again, at least openFor; openFor unless " +
			"written.",
		"Probes": "Calls let through to probe; all must succeed.",
		"Ramp": "Once closed, the share of calls let through grows from a tenth to all in this time; openFor " +
			"unless written.",
	}
}

func (b *Breaker) setDefaults() {
	*b = Breaker{
		Errors: 50, Window: duration(10 * time.Second), MinRequests: 20, OpenFor: duration(5 * time.Second), Probes: 3,
	}
}

func (b *Breaker) derive(*files) {
	if b.OpenMax == 0 {
		b.OpenMax = b.OpenFor
	}
	if b.Ramp == 0 {
		b.Ramp = b.OpenFor
	}
}

func (b *Breaker) check(s site) {
	if b.OpenMax < b.OpenFor && s.has("openMax") && s.sound(s.at("openMax"), s.at("openFor")) {
		s.fault(s.at("openMax"), "openMax %s is less than openFor %s", b.OpenMax, b.OpenFor)
	}
	if b.Errors == 0 {
		s.fault(s.at("errors"), "0%% would open it without an error; it is more than 0%%")
	}
}

// BreakerSlow opens the breaker by the share of slow calls.
type BreakerSlow struct {
	Over  Duration `json:"over"`
	Share Percent  `json:"share"`
}

func (BreakerSlow) describe() descriptions {
	return descriptions{
		"Over":  "A call is slow when the head of its response takes longer.",
		"Share": "The share of slow calls that opens the breaker.",
	}
}

func (b *BreakerSlow) setDefaults() { *b = BreakerSlow{Over: duration(time.Second), Share: 80} }

func (b *BreakerSlow) check(s site) {
	if b.Share == 0 {
		s.fault(s.at("share"), "0%% would open it without a slow call; it is more than 0%%")
	}
}
