package overload

// mean is a running mean of latencies with their variation, and of the calls in flight that go with them.
// Its zero value has no values.
type mean struct{ n, sum, square, load float64 }

func (m *mean) add(v, load float64) {
	m.n++
	m.sum += v
	m.square += v * v
	m.load += load
}

func (m *mean) merge(n *mean) {
	m.n, m.sum, m.square, m.load = m.n+n.n, m.sum+n.sum, m.square+n.square, m.load+n.load
}

// fade forgets a part.
func (m *mean) fade(keep float64) {
	m.n, m.sum, m.square, m.load = m.n*keep, m.sum*keep, m.square*keep, m.load*keep
}

func (m *mean) value() float64 { return m.sum / m.n }

// spread is the squared coefficient of variation.
func (m *mean) spread() float64 {
	if m.n == 0 {
		return 0
	}
	v := m.value()
	return max(m.square/(m.n*v*v)-1, 1e-4)
}
