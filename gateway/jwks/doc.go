// Package jwks fetches the keys of tokens from a URL: the JWK set (RFC 7517) that an issuer
// publishes.
//
// # Algorithm
//
// A [Keys] has one goroutine, and only that one fetches, so there is never more than one fetch of a
// URL under way. It fetches at once when it is started, every 10 minutes after a success, and after
// a failure in 1 s, 2 s, 4 s and so on up to a minute; each of these waits is up to a tenth shorter,
// by chance, so that a fleet does not ask at once.
//
// [Keys.Renew] is for a token whose key is not known: the issuer may have a new one. It joins a fetch
// that is under way, or has one begin where there are keys and the last that it began is a minute ago,
// and waits for its end for at most a second. So tokens with invented keys cost the issuer one fetch a minute however
// many they are, and the requests that bring them wait in that minute no longer than this.
//
// # Invariants
//
//   - What is in force is one immutable set behind an atomic pointer; a request that finds its key
//     takes no lock.
//   - A fetch is all or nothing: a set without a usable key, a status but 200, a body that is too
//     long or no JSON leaves the keys in force as they are. Those stay however long it takes.
//   - No secret is taken from a URL, so no token signed with one (HS256 and the like) is good.
//   - Only https is asked, also behind a redirect, and the server is verified.
//
// # Memory bound and failure policy
//
// One body of 1 MiB at a time, and the set made of it. A fetch ends after 5 seconds. A failure is
// logged with its cause, counted and shown in the status; tokens are refused only while no fetch has
// succeeded, and those whose key is not in the last good set.
package jwks
