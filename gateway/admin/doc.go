// Package admin serves the operators' address: health, metrics, status, the
// configuration in force, and what operators do with records and transactions.
//
// Who may call it is decided in one place (package adminguard): the Host has to be an address, localhost or a name
// of the configuration, no page of another site may ask, and where there is a token it is asked of
// everything but health and metrics. [NewProbes] serves those alone, to anybody.
//
// Errors are problem documents with the store's own words, since whoever asks can act on them.
// Listings come in pages of at most [pageMax] records; each says where the next one begins, and one is searched for no
// longer than [pageTime]. A store that does not answer is a 503 here and changes
// nothing else.
package admin
