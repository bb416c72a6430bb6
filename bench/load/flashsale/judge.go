package flashsale

import (
	"fmt"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// The bars. What of them a control misses shows that the test can tell.
const (
	criticalLeast   = 99.9 // per cent that get a final response
	shedP99Most     = 10.0 // ms
	recoveryMost    = 10.0 // s after a fault
	redisGapMost    = 5.0  // s
	soldLeast       = 0.95 // of the units: the others came back too late to be sold again
	soldLeastShort  = 0.75 // in the short form, in which a fault's units come back when nearly all is over
	underControlGap = 1.0  // × a control: at least as good
)

func (f *Finding) mark(what string, got, limit float64, unit string, least bool) {
	m := measure.Mark{What: what, Limit: limit, Least: least, Unit: unit, Got: &got}
	f.Marks = append(f.Marks, m.Judged(0))
}

func (f *Finding) most(what string, got, limit float64, unit string) {
	f.mark(what, got, limit, unit, false)
}

func (f *Finding) least(what string, got, limit float64, unit string) {
	f.mark(what, got, limit, unit, true)
}

// missed are the marks that were not met.
func (f *Finding) missed() (all []measure.Mark) {
	for _, m := range f.Marks {
		if !m.Met {
			all = append(all, m)
		}
	}
	return all
}

// judgeSale judges the gateway and the controls by the same bars, and then that each control misses
// some.
func (b *bench) judgeSale() {
	for _, f := range b.report.Findings {
		if f.Figures == nil {
			continue
		}
		f.judgeAudit(b.o.Short)
		if !b.o.Short && len(b.report.plan) == 0 {
			f.judgeSpeed()
		}
		if f.Name == ours {
			f.judgeRecovery(b.o.Short)
			if !b.o.Short { // a busy machine sends what it can
				f.judgeGenerator()
			}
		}
	}
	b.judgeBesideControl()
	b.takeMarks()
}

// judgeGenerator is a bar of the load tool itself: what it did not send it has not measured.
func (f *Finding) judgeGenerator() {
	f.most("requests that the generator could not send", 100*float64(f.Figures.Unsent)/max(float64(f.Figures.Sent), 1),
		unsentMost, " %")
}

const unsentMost = 0.1 // per cent

// takeMarks makes those of the gateway the report's, and adds one for each control.
func (b *bench) takeMarks() {
	for _, f := range b.report.Findings {
		switch {
		case f.Name == ours:
			b.report.Marks = append(b.report.Marks, f.Marks...)
		case f.Missing != "": // no bar: it is neither met nor missed, and the remarks say so
		case f.Failed != "":
			b.report.Marks = append(b.report.Marks, measure.Mark{What: "control " + f.Name + " misses a bar",
				Limit: 1, Least: true, Why: "given up: " + f.Failed})
		default:
			got := float64(len(f.missed()))
			b.report.Marks = append(b.report.Marks, measure.Mark{What: "control " + f.Name + " misses a bar", Limit: 1,
				Least: true, Got: &got}.Judged(0))
		}
	}
}

// judgeAudit are the bars that hold on every machine.
func (f *Finding) judgeAudit(short bool) {
	a := f.Audit
	f.most("units oversold", float64(a.Oversold), 0, "")
	f.most("buyers with two orders or charges", float64(a.Double), 0, "")
	f.most("acknowledged orders lost", float64(a.Lost), 0, "")
	f.most("transactions unfinished", float64(a.Unfinished), 0, "")
	f.most("duplicates that reached a service", float64(a.Repeated), 0, "")
	f.most("ids of which the services disagree", float64(a.Unbalanced), 0, "")
	share := soldLeast
	if short {
		share = soldLeastShort
	}
	f.least("units of the sale sold", float64(a.SoldHot), share*float64(a.Units), "")
	if a.UnitsLost != nil {
		f.most("units neither sold nor given back", float64(*a.UnitsLost), 0, "")
		f.most("units sold that the gateways did not count", float64(*a.UnitsUncounted), 0, "")
	}
}

// judgeSpeed are the bars that a machine has to be idle for.
func (f *Finding) judgeSpeed() {
	if c := f.Figures.class(classes[0]); c != nil {
		f.least("critical requests served", 100*c.Served, criticalLeast, " %")
	}
	peak := f.Figures.Phases[1]
	f.most("p99 until shed, at ten times", peak.Shed.P99, shedP99Most, " ms")
	f.most("shed at half the capacity", 100*f.Figures.Phases[0].ShedShare, 0, " %")
	f.most("requests at the services for a success", f.Attempts, attemptsMost, "")
	for _, l := range f.Leaks {
		grown := l.grown()
		f.most("kept after the load by "+l.Process, float64(len(grown)), 0, "")
		f.Notes = append(f.Notes, grown...)
	}
}

const attemptsMost = 1.1

// judgeRecovery has no bar in seconds in the short form: those are an idle machine's.
func (f *Finding) judgeRecovery(short bool) {
	for _, fault := range f.Faults {
		if fault.Error != "" {
			f.Marks = append(f.Marks, measure.Mark{What: "fault " + fault.Name, Why: fault.Error})
			continue
		}
		if short {
			continue
		}
		f.most("recovery from "+fault.Name, fault.Recovery, recoveryMost, " s")
		if fault.Name == killRedis {
			f.most("gap of "+fault.Name, fault.Gap, redisGapMost, " s")
		}
	}
}

// judgeBesideControl compares the gateway with itself without shedding, in the same run.
func (b *bench) judgeBesideControl() {
	us, control := b.finding(ours), b.finding(noShedding)
	if us == nil || control == nil || us.Figures == nil || control.Figures == nil {
		return
	}
	beside := func(what string, got, other float64) {
		if other <= 0 {
			other = 1e-9
		}
		ratio := got / other
		us.least(what+", beside "+noShedding, ratio, underControlGap, "×")
	}
	beside("goodput at ten times", us.Figures.Phases[1].Goodput, control.Figures.Phases[1].Goodput)
	if len(b.report.plan) > 0 {
		return // faults are failures, and the control had none
	}
	if a, c := us.Figures.class(classes[0]), control.Figures.class(classes[0]); a != nil && c != nil {
		beside("critical requests served", a.Served, c.Served)
	}
	peak := control.Figures.Phases[1]
	control.most("failed at ten times", 100*peak.FailShare, failedMost, " %")
	us.most("failed at ten times", 100*us.Figures.Phases[1].FailShare, failedMost, " %")
}

const failedMost = 1.0 // per cent of what is sent

func (b *bench) finding(name string) *Finding {
	for _, f := range b.report.Findings {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// judgeTarget judges what can be seen from outside.
func (b *bench) judgeTarget(f *Finding) {
	f.judgeGenerator()
	for i, p := range f.Figures.Phases {
		f.most(fmt.Sprintf("failed in phase %d, %s", i+1, p.Name), 100*p.FailShare, failedMost, " %")
	}
	b.report.Marks = f.Marks
}
