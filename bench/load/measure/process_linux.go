package measure

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time of a process and its descendants, user and system. A process' CPU
// clock has nanoseconds where /proc/PID/stat has ticks of ten milliseconds.
func cpuTime(pid int) (time.Duration, error) {
	pids, err := tree(pid)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, p := range pids {
		var at unix.Timespec
		// clock_getcpuclockid(3): the complement of the pid, then three bits, of which 2 is
		// "scheduled time of the whole process".
		if err := unix.ClockGettime(int32(^p<<3|2), &at); err != nil {
			if p != pid {
				continue // it has ended
			}
			return 0, fmt.Errorf("measure: CPU clock of process %d: %w", p, err)
		}
		sum += time.Duration(at.Nano())
	}
	return sum, nil
}

// CPUTime returns the CPU time of a process and its descendants, user and system.
func CPUTime(pid int) (time.Duration, error) { return cpuTime(pid) }

// OwnCPUTime returns the CPU time of this process alone.
func OwnCPUTime() (time.Duration, error) {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &at); err != nil {
		return 0, fmt.Errorf("measure: own CPU clock: %w", err)
	}
	return time.Duration(at.Nano()), nil
}

// tree returns a process, first, and its descendants.
func tree(pid int) ([]int, error) {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		tasks, err := threads(pids[i])
		if err != nil && i == 0 { // a descendant may have ended
			return nil, err
		}
		for _, task := range tasks {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pids[i], task))
			if err != nil {
				continue // the thread has ended, or the kernel does not tell
			}
			for _, field := range strings.Fields(string(text)) {
				if child, err := strconv.Atoi(field); err == nil {
					pids = append(pids, child)
				}
			}
		}
	}
	return pids, nil
}

// threads returns the ids of a process' threads.
func threads(pid int) ([]int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, fmt.Errorf("measure: process %d: %w", pid, err)
	}
	var ids []int
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// memory returns the proportional set size of a process and its descendants, in bytes.
func memory(pid int) (int64, error) {
	pids, err := tree(pid)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, p := range pids {
		n, err := proportional(p)
		if err != nil && p == pid { // a descendant may have ended
			return 0, fmt.Errorf("measure: memory of process %d: %w", p, err)
		}
		sum += n << 10
	}
	return sum, nil
}

// proportional returns a process' proportional set size in kilobytes.
func proportional(pid int) (int64, error) { return MappedMemory(pid, "Pss:") }

// MappedMemory returns a line of a process' smaps_rollup, in kilobytes.
func MappedMemory(pid int, line string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return kilobytes(string(text), line)
}

// kilobytes returns the number of a line such as "Pss:   397 kB".
func kilobytes(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		}
	}
	return 0, fmt.Errorf("no line %q", name)
}

// raiseFiles raises the limit of open files as far as it goes, for this process and those that it
// starts, and returns it.
func raiseFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("measure: limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	// Go does this for itself at its start, but gives its children the old limit unless it was set
	// by hand.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("measure: limit of open files: %w", err)
	}
	return int(min(limit.Max, 1<<20)), nil
}

// processors are those that this process may run on; the first is for the contenders, the last for
// everything else.
type processors struct{ all unix.CPUSet }

func newProcessors() (processors, error) {
	var p processors
	if err := unix.SchedGetaffinity(0, &p.all); err != nil {
		return p, fmt.Errorf("measure: processors: %w", err)
	}
	return p, nil
}

// apart reports whether there are two of them.
func (p *processors) apart() bool { return p.all.Count() > 1 }

// one returns the n-th, counted from the end when negative.
func (p *processors) one(n int) unix.CPUSet {
	var ids []int
	for id := 0; len(ids) < p.all.Count(); id++ {
		if p.all.IsSet(id) {
			ids = append(ids, id)
		}
	}
	if n < 0 {
		n += len(ids)
	}
	var set unix.CPUSet
	set.Set(ids[n])
	return set
}

// moveContender puts a process, its threads and descendants on the contenders' processor. What they
// start later is there by itself.
func (p *processors) moveContender(pid int) error {
	if !p.apart() {
		return nil
	}
	return pinAll(pid, p.one(0))
}

// moveSelf puts this process on the processor of load and upstream, and with it all that it starts;
// the function returned undoes it.
func (p *processors) moveSelf() (back func() error, err error) {
	if !p.apart() {
		return func() error { return nil }, nil
	}
	self := os.Getpid()
	return func() error { return pinThreads(self, p.all) }, pinThreads(self, p.one(-1))
}

func pinAll(pid int, set unix.CPUSet) error {
	pids, err := tree(pid)
	if err != nil {
		return err
	}
	for _, p := range pids { // a descendant may have ended
		if err := pinThreads(p, set); err != nil && p == pid {
			return err
		}
	}
	return nil
}

// pinThreads pins until it finds no thread that is new: one that is not pinned yet may have started
// it in the meantime.
func pinThreads(pid int, set unix.CPUSet) error {
	var before []int
	for {
		ids, err := threads(pid)
		if err != nil {
			return err
		}
		if slices.Equal(ids, before) {
			return nil
		}
		for _, id := range ids {
			if err := unix.SchedSetaffinity(id, &set); err != nil && err != unix.ESRCH {
				return fmt.Errorf("measure: pinning process %d: %w", pid, err)
			}
		}
		before = ids
	}
}
