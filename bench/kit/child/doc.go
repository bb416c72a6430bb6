// Package child starts processes that end with the one that started them: the demo's coordinator,
// what the load tools measure, the servers of the tests. It also waits until one is ready and keeps
// what one writes.
//
// A child is the leader of a process group of its own, so that a terminal's Ctrl-C reaches only the
// parent, which then stops its children in order. On Linux the kernel kills the child when the
// parent dies without having stopped it (prctl(2), PR_SET_PDEATHSIG). That signal is bound to the
// thread that forked, so a goroutine keeps its thread until the child has ended. On other systems a
// parent that is killed leaves its children behind.
package child
