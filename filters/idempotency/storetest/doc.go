// Package storetest is the conformance suite of [idempotency.Store]: what every store must do, whatever it is
// made of. A store's test calls [Run]; it passes or the store is wrong.
//
// Beside tables of cases it drives the store and the pure core through the same random steps and compares
// what both say (a model-based test; the seed is printed when it fails), and lets many goroutines contend for
// one key.
package storetest
