//go:build !unix

package main

// privateFiles does nothing: the folder's own permissions apply.
func privateFiles() {}
