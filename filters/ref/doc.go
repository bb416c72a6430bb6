// Package ref is the language of references and templates: principal, path.sku, body.cart.total, and text with such
// references in braces. It is parsed, printed and evaluated here and nowhere else; the configuration, the filters and
// the gateway share it.
//
// # Language
//
//	principal client.ip route gid key     what the gateway knows of the request
//	host                                  the name that the client asked for: Host or :authority in lower case,
//	                                      without the port and a dot at the end; an address without brackets
//	method path query body                the request's own parts, whole
//	path.NAME query.NAME header.NAME      a captured segment, a parameter, a field; NAME may have dots
//	body.A.B steps.A.B                    a member of a JSON document; each dot goes one member deeper
//
// A template holds references in braces; {{ and }} are the braces themselves.
//
// # Invariants
//
// What [Parse] and [ParseTemplate] accept, String prints so that it is parsed to the same again. A reference to a part
// that the request does not have evaluates to false, never to an empty text. Evaluation changes nothing and allocates
// nothing but the text of a body, and of a member that is written with escapes or with white space in it.
//
// A part that can be read in more than one way is an error and no value ([FaultError]); for the members of a body that
// is what package jsonscan says.
//
// # Memory bound
//
// A value is part of the request, or one copy of a part of it. No document is built.
//
// # Failure policy
//
// A body that cannot be read is an error. One that is no JSON at all has no members; one that is JSON and not exactly
// one well-formed document is a [FaultError] of every member.
package ref
