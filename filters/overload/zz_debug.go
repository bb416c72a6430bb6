package overload

import (
	"fmt"
	"math"
)

func (l *Limiter) Debug() string {
	a := &l.adaptive
	return fmt.Sprintf("l=%.1f e=%.2f±%.2f u=%.2f lead=%.0f", a.limit, a.prober.elastic, 1/math.Sqrt(a.prober.evidence), a.prober.usual, l.reserved.lead/1e6)
}
