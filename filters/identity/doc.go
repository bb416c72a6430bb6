// Package identity establishes the principal of an exchange.
//
// Sources are tried in their order, and the first that applies decides:
//
//   - [JWT] applies when there is an Authorization field with the scheme Bearer (RFC 6750 §2.1).
//     The principal is a claim of the token.
//   - [Header] applies when a trusted peer sent the field with a value. The principal is the value.
//   - [ClientIP] always applies. The principal is "ip:" and the client's address, such as
//     ip:192.0.2.7.
//
// When none applies, and where none is configured, the client's address decides as well: every
// request has a principal, because idempotency keys and limits are kept apart by it, and requests
// without credentials must not share one.
//
// # What is refused
//
// A source that applies has the last word; the next one is not asked. These are 401
// unauthenticated:
//
//   - a token whose signature, expiry, not-before or issuer is not valid (30 seconds of leeway for
//     clocks), or whose claim is missing, empty or not a string; with WWW-Authenticate: Bearer
//     error="invalid_token" (RFC 6750 §3.1);
//   - a bearer token beside another Authorization field;
//   - several fields of a header source from a trusted peer;
//   - a claim or value that begins with "ip:", which would be the principal of an address;
//   - one that a header field could not carry as it is to the service: longer than 255 bytes, with
//     control characters, or with white space at either end.
//
// # What is removed
//
// A field that a header source reads is removed from the request when the peer is not trusted,
// whatever source applies in the end, so that a service never sees a forged one. Trust is in the
// TCP peer, not in the client's address, which a proxy may have reported. Fields whose name differs
// only by underscores in the place of hyphens (X_User) are removed whatever peer sent them: many
// services cannot tell the two apart (CGI, RFC 3875 §4.1.18).
//
// # Keys
//
// The keys of tokens are a value, a [KeySet], which [ParseKeys] makes of a JWK set (RFC 7517); the
// filter reads no file and fetches nothing. RS, PS and ES with 256, 384 and 512 and EdDSA are
// accepted (RFC 7518, RFC 8037), and HS only where the set has a symmetric key. The key's own type
// and alg bind the algorithm, so a token cannot choose how it is verified; "none" is never
// accepted. A token that names no key (kid) is tried with each key of the set that suits its
// algorithm. A token without an expiry does not expire.
//
// # Memory bound and failure policy
//
// Nothing is kept between requests but the settings and the keys. Everything that is not valid is
// refused; there is no state that could be unavailable.
package identity
