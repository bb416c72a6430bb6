// Package dtmtest runs a real sluice-dtm for tests.
//
// Package build builds its program, from cmd/sluice-dtm, a module of its own; SLUICE_DTM names one
// that is there already. What cannot be built or started fails the test: nothing is skipped. Each
// coordinator has its own folder and port.
package dtmtest
