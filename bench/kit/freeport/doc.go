// Package freeport finds loopback addresses for servers that must come back on the same port after
// a restart.
//
// A port that the kernel hands out (":0") lies in the range from which it also takes the source
// ports of outgoing connections (32768 and up on Linux), so that while the server is away
// somebody's connection may sit on its port. The ports here lie below that range. A process draws them
// from blocks that it has for itself until it ends: between the look at a port and the server that
// listens on it another process would have time to take it, or to look at it, which takes it too.
package freeport
