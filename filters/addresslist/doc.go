// Package addresslist refuses requests by the address of their client: what an allow list does not have, or a deny
// list has, is 403 forbidden. It looks at the client's address, which a trusted proxy may have told, and not at the
// peer's. A client whose address a trusted proxy told and that cannot be read is 400: it is on no list, and must
// neither pass a deny list nor be taken for the proxy.
//
// The lists are sorted and merged once, and an address is found by binary search: a list may be long. Memory: 48 bytes
// a network.
package addresslist
