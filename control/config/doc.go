// Package config is the configuration of Sluice: the one model, and the one decoder for it. The gateway, its reload,
// validate, explain and plan read configurations with it and with nothing else.
//
// # Stages
//
//	YAML       bytes → nodes (go.yaml.in/yaml) → a tree of values with their places; anchors and merge keys are written out
//	fill in    ${env:NAME} and ${file:PATH} in text; the values are remembered as secrets
//	schema     the tree against the JSON Schema (draft 2020-12), which is made from the structs ([Schema])
//	structs    the tree into [Config], with defaults (defaults.go has them all) and absolute paths
//	checks     what a schema cannot say: names that lead nowhere, times that contradict each other, templates
//
// All mistakes are reported in one go, each with file, line and column ([FaultsError]). A mistake marks its value as broken;
// later stages go on with everything else, and check nothing that builds on something broken, so a fault is never the
// consequence of another. Only where a file has no sound syntax do the later stages wait, since nobody knows what it holds.
//
// # Invariants
//
// A [Config] is complete and is never changed. What the contract has and this version has not is refused ([Unsupported]), never
// ignored. A secret is not shown in a fault nor by [Config.Redacted].
//
// # Bounds
//
// A file has at most 1 MiB, 64 levels and 100,000 values with its aliases written out; a file that is filled in
// has at most 64 KiB, any other that is referred to 1 MiB.
//
// # Failure policy
//
// There is a whole configuration or none: nothing is taken from a faulty one.
package config
