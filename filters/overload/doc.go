// Package overload bounds how many calls a service works on at a time, and decides which requests
// wait and which are shed when more arrive.
package overload
