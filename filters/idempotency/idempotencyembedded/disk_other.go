//go:build !linux

package idempotencyembedded

import "os"

func syncData(f *os.File) error { return f.Sync() }
