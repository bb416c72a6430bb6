package plan

import "github.com/sluice-gateway/sluice/control/config"

// Outcome is what a reload would do with a configuration.
type Outcome string

// The outcomes of a check.
const (
	Unchanged Outcome = "unchanged" // nothing differs from what is in force
	Applied   Outcome = "applied"
	Refused   Outcome = "refused" // what is in force stays
)

// CheckRequest is the body of POST /api/config/check: documents as they are written. What they refer to, variables and
// files, is looked up where they are checked.
type CheckRequest struct {
	Files []Document `json:"files"`
}

// Document is one file of a configuration.
type Document struct {
	Name    string `json:"name"` // stands in faults
	Content string `json:"content"`
}

// Check says what would become of a configuration that is not taken. It has no secret.
type Check struct {
	InForce string  `json:"in_force"`          // the version
	Version string  `json:"version,omitempty"` // of what was checked; none where it cannot be read
	Outcome Outcome `json:"outcome"`
	// Reason says why it would be refused, where Faults does not.
	Reason   string           `json:"reason,omitempty"`
	Faults   []config.Fault   `json:"faults,omitempty"`
	Warnings []config.Warning `json:"warnings,omitempty"`
	// Restart are the settings that differ and that a reload cannot change. Any has it refused.
	Restart []string `json:"restart,omitempty"`
	Changes []Change `json:"changes,omitempty"`
	// Files are those that are referred to by both and have other contents.
	Files []string `json:"files,omitempty"`
}
