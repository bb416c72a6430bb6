package inflight

// Settings are those of one service.
type Settings struct {
	Max int // requests at once, at least 1
}
