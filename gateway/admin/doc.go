// Package admin serves the operators' address: health, metrics, status, the
// configuration in force, and what operators do with records and transactions.
//
// Errors are problem documents with the store's own words, since whoever asks can act on them.
// Listings are bounded ([recordsMax]). A store that does not answer is a 503 here and changes
// nothing else.
package admin
