// Package identity establishes the principal of an exchange.
//
// Sources are tried in their order, and the first that applies decides:
//
//   - [JWT] applies when there is an Authorization field with the scheme Bearer (RFC 6750 §2.1) or,
//     on GET and HEAD, the cookie that is named for it; where a token is required always. The
//     principal is a claim of the token. The field is asked before the cookie.
//   - [Header] applies when a trusted peer sent the field with a value. The principal is the value.
//   - [ClientIP] always applies. The principal is "ip:" and the client's address, such as
//     ip:192.0.2.7; with IPv6 its network, such as ip:2001:db8:1:2::/64, since a site has as many
//     addresses as it likes (RFC 6177).
//
// When none applies, and where none is configured, the client's address decides as well: every
// request has a principal, because idempotency keys and limits are kept apart by it, and requests
// without credentials must not share one. A request whose address could not be read has none. It is
// refused (400 bad-request) where something of the route rests on the principal or the address
// ([Rests]), and passes elsewhere.
//
// # What is refused
//
// A source that applies has the last word; the next one is not asked. These are 401
// unauthenticated:
//
//   - a token whose signature, expiry, not-before, issuer or audience is not valid (30 seconds of
//     leeway for clocks), or whose claim is missing, empty or not a string; with WWW-Authenticate:
//     Bearer error="invalid_token" (RFC 6750 §3.1). An exp of 0 has expired; iat is not looked at;
//   - no token where one is required;
//   - a bearer token beside another Authorization field, and two cookies with different tokens;
//   - several fields of a header source from a trusted peer;
//   - a claim or value that begins with "ip:", which would be the principal of an address;
//   - one that a header field could not carry as it is to the service: longer than 255 bytes, with
//     control characters, not UTF-8, or with white space at either end.
//
// # What is removed
//
// A field that a header source reads is removed from the request when the peer is not trusted,
// whatever source applies in the end, so that a service never sees a forged one. Trust is in the
// TCP peer, not in the client's address, which a proxy may have reported. Fields whose name differs
// only by underscores or the like in the place of hyphens (X_User, X.User) are removed whatever peer
// sent them: many services cannot tell them apart (CGI, RFC 3875 §4.1.18). Behind a body such fields
// are removed by the gateway, whoever sends them.
//
// # Keys
//
// The keys of tokens are a [KeySet], which [ParseKeys] makes of the JWK set (RFC 7517) of a file and
// [ParsePublished] of one that anybody can read; the filter reads no file and fetches nothing. RS, PS
// and ES with 256, 384 and 512 and EdDSA are accepted (RFC 7518, RFC 8037), and HS only where a file
// has a symmetric key. The key's own type and alg bind the algorithm, so a token cannot choose how it
// is verified; "none" is never accepted. A token that names no key (kid) is tried with each key of
// the set that suits its algorithm. A token without an expiry does not expire.
//
// Keys that change are behind [Keys]. A token that names a key which is not known has them renewed,
// unless it is refused with any key: expired, of another issuer, for another audience. While there
// are no keys at all a token is refused (401) with a challenge that does not call it invalid.
//
// # Memory bound and failure policy
//
// Nothing is kept between requests but the settings and the keys. Everything that is not valid is
// refused. Where keys are renewed, the last good ones verify until others have come.
package identity
