//go:build !linux

package embeddedstore

import "os"

func syncData(f *os.File) error { return f.Sync() }
