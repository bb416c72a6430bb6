// Package abuse attacks a real gateway process with what an attacker sends who wants it busy or
// full: slow headers, slow bodies, responses that are never read, more connections than are
// allowed, and on HTTP/2 rapid reset (CVE-2023-44487), CONTINUATION (CVE-2023-45288), SETTINGS and
// PING floods.
//
// While a flood runs, every request of another client is served. The gateway's memory grows by 50
// MB at most against a warm state. Afterwards the flood's connections are gone and a new client is
// served. All of it is in the tests.
package abuse
