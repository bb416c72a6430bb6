package overload

import (
	"github.com/sluice-gateway/sluice/bench/load/measure"
	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

// least adds a mark: got is at least the limit.
func (f *Finding) least(what string, got, limit float64, unit string) {
	f.mark(what, got, limit, unit, true)
}

// most adds a mark: got is at most the limit.
func (f *Finding) most(what string, got, limit float64, unit string) {
	f.mark(what, got, limit, unit, false)
}

func (f *Finding) mark(what string, got, limit float64, unit string, least bool) {
	m := measure.Mark{What: f.Scenario + ": " + what, Limit: limit, Least: least, Unit: unit, Got: &got}
	f.Marks = append(f.Marks, m.Judged(0))
}

// back adds a mark on how soon goodput is back.
func (f *Finding) back(what string, p Phase, limit float64) {
	got := p.To - p.From // never
	if p.Recovery != nil {
		got = *p.Recovery
	}
	f.most(what, got, limit, " s")
}

// critical returns which share of the critical requests was served, in per cent, over the phases.
func (f *Finding) critical() float64 { return f.servedShare(limiter.Critical, 0, len(f.Phases)) }

func (f *Finding) servedShare(class limiter.Class, from, to int) float64 {
	all, got := 0, 0
	for _, p := range f.scenario.phases[from:to] {
		for i := int(p.from.Seconds()); i < int(p.to.Seconds()); i++ {
			all += f.record.seconds[i].requests[class]
			got += f.record.seconds[i].answered[class]
		}
	}
	return 100 * ratio(got, all)
}

// The bars of the issue.

func judgeBurst(f *Finding) {
	before, during, after := f.Phases[0], f.Phases[1], f.Phases[2]
	f.least("goodput at 10 C", during.Ratio, 0.98, " C")
	f.least("critical requests served", f.critical(), 99.9, " %")
	f.most("p99 of admitted at 10 C", during.P99, 92, " ms")
	f.most("p99 until shed", during.ShedP99, 5, " ms")
	f.most("shed at 0.5 C, before and after", 100*max(before.ShedShare, after.ShedShare), 0, " %")
}

func judgeDrop(f *Finding) {
	during, after := f.Phases[1], f.Phases[2]
	f.least("goodput at C / 3, after 2 s", during.Ratio, 0.97, " of what is left")
	f.back("until goodput fits C / 3", during, 2)
	f.least("critical requests served", f.critical(), 99.9, " %")
	f.back("until goodput is back", after, 1)
	f.least("goodput after", after.Ratio, 0.97, " of what is possible")
	f.most("calls a request", f.AttemptsARequest, 1.1, "")
}

func judgeCreep(f *Finding) {
	creeping, half := f.Phases[1], f.Phases[2]
	f.least("goodput while capacity creeps", creeping.Ratio, 0.97, " of what is possible")
	f.least("goodput at C / 2", half.Ratio, 0.97, " of what is possible")
	f.least("worst second", min(creeping.Worst, half.Worst), 0.85, " of what is possible")
	f.least("critical requests served", f.critical(), 99.9, " %")
}

func judgeSteps(f *Finding) {
	during := f.Phases[1]
	f.least("goodput", during.Goodput, 285, "/s")
	f.most("compensations because a step was shed", during.Compensations, 0, "/s")
}

// The bars of our own. A single request shed in a thousand is none of their business.

const someShed = 0.1 // per cent

// judgeReplicas takes as its bar about what a fixed limit reaches that is told the capacity and the
// number of gateways. Chance spreads the critical requests unevenly over them.
func judgeReplicas(f *Finding) {
	during, after := f.Phases[1], f.Phases[2]
	critical, p99 := 99.5, 140.0
	if f.scenario.gateways > 2 {
		critical, p99 = 97, 240
	}
	f.least("goodput at 10 C", during.Ratio, 0.96, " C")
	f.least("critical requests served", f.critical(), critical, " %")
	f.most("p99 of admitted at 10 C", during.P99, p99, " ms")
	f.most("shed at 0.5 C, before and after", 100*max(f.Phases[0].ShedShare, after.ShedShare), someShed, " %")
}

func judgeSlowStart(f *Finding) {
	cold, warm, during := f.Phases[0], f.Phases[1], f.Phases[2]
	f.least("goodput while it is cold", cold.Ratio, 0.95, " of what is possible")
	f.most("shed once it is warm", 100*warm.ShedShare, someShed, " %")
	f.least("goodput at 10 C", during.Ratio, 0.97, " C")
	f.least("critical requests served", f.critical(), 99.9, " %")
}

// judgeBimodal knows that a call of 205 ms is longer than a request may wait at the gateway: now and
// then all workers have one, and a critical request is let in beyond the limit.
func judgeBimodal(f *Finding) {
	before, during, after := f.Phases[0], f.Phases[1], f.Phases[2]
	f.least("goodput at 10 C", during.Ratio, 0.95, " C")
	f.least("critical requests served", f.critical(), 99, " %")
	f.most("shed at 0.5 C, before and after", 100*max(before.ShedShare, after.ShedShare), 2, " %")
}

func judgeInversion(f *Finding) {
	during := f.Phases[1]
	f.least("goodput", during.Ratio, 0.98, " C")
	f.least("critical requests served", f.critical(), 99.9, " %")
	f.least("normal requests served", f.servedShare(limiter.Normal, 0, 3), 99.5, " %")
	f.least("everybody else's requests served", 100*during.OtherShare, 99, " %")
}

func judgeFailing(f *Finding) {
	during, after := f.Phases[1], f.Phases[2]
	f.most("shed while calls fail", 100*during.ShedShare, someShed, " %")
	f.most("shed after", 100*after.ShedShare, someShed, " %")
	f.least("goodput after", after.Ratio, 0.98, " of what is possible")
	f.least("goodput at 10 C", f.Phases[3].Ratio, 0.97, " C")
	f.least("critical requests served at 10 C", f.servedShare(limiter.Critical, 3, 4), 99.9, " %")
}

func judgeStorm(f *Finding) {
	after := f.Phases[2]
	f.back("until goodput is back", after, 1)
	f.least("goodput after", after.Ratio, 0.97, " of what is possible")
}

func judgeImpatient(f *Finding) {
	during := f.Phases[1]
	f.least("goodput at 2 C", during.Ratio, 0.97, " C")
	f.least("critical requests served", f.critical(), 99.9, " %")
	f.least("served to who waits against who does not", during.ObeyShare/max(during.IgnoreShare, 0.001), 1.2, "")
}
