package config

import "strings"

// Log is what the gateway writes beside its own log.
type Log struct {
	Access *AccessLog `json:"access"` // nil: none
}

func (Log) describe() descriptions {
	return descriptions{
		"":       "What is written beside the gateway's own log.",
		"Access": "A line for each request of a client, at its end. Off unless it is there; {} has the defaults.",
	}
}

// Where an access log goes that is no file.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// The forms of an access log, and of the principals in it.
const (
	AccessJSON      = "json"
	AccessText      = "text"
	PrincipalHashed = "hash"
	PrincipalPlain  = "plain"
)

// AccessLog is the log of requests.
type AccessLog struct {
	Format    string  `json:"format" jsonschema:"enum=json,enum=text"`
	Output    string  `json:"output" config:"example=stdout"` // Stdout, Stderr, or a path that is absolute after Load
	Sample    Percent `json:"sample"`
	Principal string  `json:"principal" jsonschema:"enum=hash,enum=plain"`
}

func (AccessLog) describe() descriptions {
	return descriptions{
		"": "The log of requests. Lines that cannot be written are dropped and counted; no request waits for " +
			"them.",
		"Format": "json: an object on each line; text: name=value pairs.",
		"Output": "stdout, stderr or a file, which is appended to, and opened again at SIGUSR1.",
		"Sample": "The share of requests that are written, by chance; refusals by the gateway and responses from 500 " +
			"on are written whatever it is.",
		"Principal": "hash: the first 16 hexadecimal digits of the principal's SHA-256; plain: as it is.",
	}
}

func (a *AccessLog) setDefaults() {
	*a = AccessLog{Format: AccessJSON, Output: Stdout, Sample: 100, Principal: PrincipalHashed}
}

func (a *AccessLog) derive(f *files) {
	if a.Output != Stdout && a.Output != Stderr && a.Output != "" {
		a.Output = f.absolute(a.Output)
	}
}

func (a *AccessLog) check(s site) {
	switch {
	case a.Output == "":
		s.fault(s.at("output"), "is empty: it is stdout, stderr or a file")
	case strings.ContainsFunc(a.Output, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		s.fault(s.at("output"), "has a control character")
	}
}
