package measure

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// others measures how much of the machine other programs use while this one measures. It looks from
// two sides, since each misses something: the processes that it can see, whose short-lived children
// count once they have been waited for; and the kernel's account of all processors, less the time of
// this program's own processes, which has in it what a container cannot see. The larger counts, and
// on top of it what the hypervisor took away.
type others struct {
	before usage
	sum    usage
}

// usage is processor time. The kernel's threads are nobody's: most of what they do here is the
// network's work for the load.
type usage struct {
	wall    time.Duration // of all processors
	seen    time.Duration // processes that are not of this run
	all     time.Duration // user and system time of all processors, interrupts left out
	own     time.Duration // this process and its descendants
	stolen  time.Duration
	reading time.Time
}

const tick = 10 * time.Millisecond // proc(5): USER_HZ is 100 wherever Linux runs

// begin and end are called before and after what is measured.
func (o *others) begin() (err error) {
	o.before, err = readUsage()
	return err
}

func (o *others) end() error {
	now, err := readUsage()
	if err != nil {
		return err
	}
	o.sum.wall += now.reading.Sub(o.before.reading)
	o.sum.seen += now.seen - o.before.seen
	o.sum.all += now.all - o.before.all
	o.sum.own += now.own - o.before.own
	o.sum.stolen += now.stolen - o.before.stolen
	return nil
}

// share is what part of the processors' time others had.
func (o *others) share(processors int) float64 {
	if o.sum.wall <= 0 {
		return 0
	}
	taken := max(o.sum.seen, o.sum.all-o.sum.own, 0) + o.sum.stolen
	return min(1, float64(taken)/float64(o.sum.wall)/float64(processors))
}

func readUsage() (u usage, err error) {
	if u.all, u.stolen, err = processorTime(); err != nil {
		return u, err
	}
	u.reading = time.Now()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return u, fmt.Errorf("measure: %w", err)
	}
	own, err := tree(os.Getpid())
	if err != nil {
		return u, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		switch spent, kernel := processTime(string(text)); {
		case slices.Contains(own, pid):
			u.own += spent
		case !kernel:
			u.seen += spent
		}
	}
	return u, nil
}

// processorTime reads the first line of /proc/stat: of all processors together.
func processorTime() (used, stolen time.Duration, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("measure: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("measure: /proc/stat begins with %q", line)
	}
	const user, nice, system, steal = 1, 2, 3, 8
	return ticks(f[user]) + ticks(f[nice]) + ticks(f[system]), ticks(f[steal]), nil
}

// processTime reads /proc/PID/stat: the time of a process and of the children that it has waited
// for, and whether it is a thread of the kernel.
func processTime(text string) (spent time.Duration, kernel bool) {
	at := strings.LastIndexByte(text, ')') // the name before it may have anything in it
	f := strings.Fields(text[at+1:])
	const flags, first, last = 6, 11, 14 // utime, stime, cutime, cstime; fields 9 and 14 to 17 of the line
	if len(f) <= last {
		return 0, false
	}
	for _, t := range f[first : last+1] {
		spent += ticks(t)
	}
	n, _ := strconv.ParseUint(f[flags], 10, 64)
	const kernelThread = 0x00200000 // PF_KTHREAD of the kernel's sched.h
	return spent, n&kernelThread != 0
}

func ticks(s string) time.Duration {
	n, _ := strconv.ParseInt(s, 10, 64) // the kernel writes nothing else
	return time.Duration(n) * tick
}

// congestionControl returns the name of what new connections get; empty where it is not known.
func congestionControl() string {
	name, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}
