package waitingroom

import (
	"math"
	"math/bits"
)

// registers is how many a sketch has: its standard error is 1.04/√2048, 2.3 %.
const (
	registerBits = 11
	registers    = 1 << registerBits
)

// Sketch estimates how many different hashes it has seen, in 2 KiB whatever their number (HyperLogLog; Flajolet, Fusy,
// Gandouet, Meunier, 2007). The zero value has seen none.
type Sketch [registers]uint8

// Register is one number of a sketch: what two sketches are joined by is the larger one at each index.
type Register struct {
	Index uint16
	Rank  uint8
}

// registerOf returns what a hash raises a register to.
func registerOf(hash uint64) Register {
	rest := hash<<registerBits | 1<<(registerBits-1) // the bit bounds the rank
	return Register{Index: uint16(hash >> (64 - registerBits)), Rank: uint8(bits.LeadingZeros64(rest)) + 1}
}

// Raise joins a register to the sketch and reports whether that changed it. One that cannot be is ignored.
func (s *Sketch) Raise(r Register) bool {
	if int(r.Index) >= registers || r.Rank <= s[r.Index] {
		return false
	}
	s[r.Index] = r.Rank
	return true
}

// Estimate returns about how many different hashes there were; exactly 0 for none. Small numbers are counted by the
// registers that are still zero.
func (s *Sketch) Estimate() float64 {
	sum, zeros := 0.0, 0
	for _, rank := range s {
		sum += math.Ldexp(1, -int(rank))
		if rank == 0 {
			zeros++
		}
	}
	const m = float64(registers)
	e := 0.7213 / (1 + 1.079/m) * m * m / sum
	if e <= 2.5*m && zeros > 0 {
		return m * math.Log(m/float64(zeros))
	}
	return e
}
