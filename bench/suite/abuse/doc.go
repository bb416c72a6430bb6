// Package abuse attacks a real gateway process with what an attacker sends who wants it busy or
// full: slow headers, slow bodies, responses that are never read, more connections than are
// allowed, and on HTTP/2 rapid reset (CVE-2023-44487), CONTINUATION (CVE-2023-45288), SETTINGS and
// PING floods.
//
// While a flood runs, every request of another client is served. The gateway's memory grows by 50
// MB at most against a warm state. Afterwards the flood's connections are gone and a new client is
// served. All of it is in the tests.
//
// Attacks that each stay within the limits of a connection hold what the process has: responses that
// nobody takes, unfinished bodies, keyed requests whose clients leave, idle connections. All of them
// at once, for a fixed share of the processor, cost the process listen.maxBuffered and 64 MB, and
// another client twice the p99 that it has where they attack another process. -attack-for=60s runs
// them for as long as that is meant.
package abuse
