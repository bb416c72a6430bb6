package plot

// Thin returns the series with at most n points, each the greatest of those that it stands for, so
// that no peak is lost. A series that is short enough is returned as it is.
func Thin(s Series, n int) Series {
	if n <= 0 || len(s.Y) <= n {
		return s
	}
	thin := s
	thin.X, thin.Y = make([]float64, 0, n), make([]float64, 0, n)
	for i := range n {
		from, to := i*len(s.Y)/n, (i+1)*len(s.Y)/n
		best := from
		for j := from; j < to; j++ {
			if s.Y[j] > s.Y[best] || s.Y[best] != s.Y[best] { // a NaN gives way
				best = j
			}
		}
		thin.X, thin.Y = append(thin.X, s.X[best]), append(thin.Y, s.Y[best])
	}
	return thin
}
