package overload

import "time"

// reservations is what was set aside at the door and has not come yet.
type reservations struct {
	open   int
	slots  [reservedSeconds]int // by the second in which they were made
	second int64                // the last one seen
	lead   float64              // how long after the door a call comes of late, in ns
}

// reservedSeconds is how long a reservation is kept. What has not come by then, does not.
const reservedSeconds = 32

func (v *reservations) clock(now int64) {
	second := now / int64(time.Second)
	for v.second < second {
		v.second++
		slot := &v.slots[v.second%reservedSeconds]
		v.open -= *slot
		*slot = 0
		if second-v.second > reservedSeconds {
			v.second = second - reservedSeconds
		}
	}
}

func (v *reservations) add(now int64) Reservation {
	v.clock(now)
	v.slots[v.second%reservedSeconds]++
	v.open++
	return Reservation{at: now, valid: true}
}

func (v *reservations) remove(now int64, r Reservation) {
	v.clock(now)
	second := r.at / int64(time.Second)
	if !r.valid || v.second-second >= reservedSeconds {
		return
	}
	if slot := &v.slots[second%reservedSeconds]; *slot > 0 {
		*slot--
		v.open--
	}
}

func (v *reservations) use(now int64, r Reservation) {
	if !r.valid {
		return
	}
	v.remove(now, r)
	weight := 1.0 / 32
	if v.lead == 0 {
		weight = 1
	}
	v.lead += weight * (float64(now-r.at) - v.lead)
}

// doorShare is how much of what is possible a class may fill at the door.
var doorShare = [classes]float64{1.25, 1.1, 1, 0.9}
