// Package dtmtest runs a real sluice-dtm for tests.
//
// The binary is built once a test process from cmd/sluice-dtm, a module of its own, with the go command; SLUICE_DTM names one that is
// built already. What cannot be built or started fails the test: nothing is skipped. Each coordinator has its own folder and port.
package dtmtest
