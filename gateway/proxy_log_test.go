package gateway

import (
	"io"
	"log"
)

// quietLog is for servers whose clients are refused on purpose.
func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
