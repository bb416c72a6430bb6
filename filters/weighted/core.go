package weighted

import "math"

// Choice is one of several services and its weight.
type Choice struct {
	Service string
	Weight  int // 0: never chosen
}

// Picker chooses. It does not change, so it is safe for concurrent use. The zero value has nothing to choose from.
type Picker struct{ choices []choice }

type choice struct {
	Choice
	hash   uint64
	weight float64
}

// NewPicker returns what chooses between services of different names.
func NewPicker(list []Choice) *Picker {
	p := new(Picker)
	for _, c := range list {
		if c.Weight > 0 {
			p.choices = append(p.choices, choice{c, Hash(c.Service), float64(c.Weight)})
		}
	}
	return p
}

// Pick returns the service for the hash of who asks; empty where there is none with a weight.
func (p *Picker) Pick(asks uint64) string {
	service, best := "", math.Inf(-1)
	for i := range p.choices {
		c := &p.choices[i]
		if score := c.weight / -math.Log(unit(mix(asks^c.hash))); score > best {
			service, best = c.Service, score
		}
	}
	return service
}

// unit makes a number in the open interval (0, 1) of the 53 bits of a hash that a float64 has room for.
func unit(hash uint64) float64 { return (float64(hash>>11) + .5) / (1 << 53) }

// Hash returns a hash that is the same in every process: FNV-1a, with the bits mixed.
func Hash(text string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 0x100000001b3
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64 (G. Steele, D. Lea, C. Flood: Fast splittable pseudorandom number generators,
// 2014): every bit of the result depends on every bit of the argument.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
