// Package config is the configuration of Sluice: the one model, and the one decoder for it. The
// gateway, its reload, validate, explain and plan read configurations with it and with nothing
// else.
//
// # Pipeline
//
//	outline   bytes → UTF-8 text; a quick look at it for messages, and for what the YAML library cannot read
//	parse     text → nodes (go.yaml.in/yaml) → a tree of values with their places; anchors, merge keys written out
//	expand    ${env:NAME}, ${env:NAME:-default}, ${file:PATH}; what they are expanded to is remembered as secret
//	merge     the files of a folder into one tree
//	schema    the tree against the JSON Schema (draft 2020-12), which is made from the structs ([Schema])
//	decode    the tree into [Config], over the defaults of each section
//	derive    defaults that depend on what is written, absolute paths
//	check     what a schema cannot say: names that lead nowhere, times that contradict each other, templates
//
// # Sections
//
// Each struct of the model is a section, in a file of its own, and has what it needs as methods:
// defaults, derived defaults, checks, descriptions; a walker calls them. sections.go lists those of
// the policies. What a tag can say of a field is in fields.go, settings that are a word or a value
// in unions.go.
//
// All mistakes are reported in one go, each with file, line and column ([FaultsError]). A mistake
// marks its value as broken; later stages go on with everything else, and check nothing that builds
// on something broken, so a fault is never the consequence of another. Only a file without sound
// syntax stops the later stages: what it holds is unknown.
//
// # Invariants
//
// A [Config] is complete and is never changed. What the contract has and this version has not is
// refused, never ignored. A secret is not shown in a fault nor by
// [Config.Redacted]. Every fault has its place in the file as it was written, whatever was
// rewritten before it was parsed.
//
// # Bounds
//
// They are in bounds.go, and each is looked at before what it bounds is made. A file has at most 1 MiB, 64 levels of
// flow collections within 64 of block ones, and 100,000 values with its aliases and merge keys written out; the files
// of a folder together 8 MiB and 500,000 values. A file that a value is expanded to has at most 64 KiB, all that values
// are expanded to 1 MiB, any other file that is referred to 1 MiB, and all of them 32 MiB. At most 1,000 faults are
// told. Reading takes a time that grows with the size of the text and of what its aliases write out.
//
// # Reload
//
// [Reload] knows the configuration before. The lines of a route that have not changed are taken out of the text before
// it is parsed, and the value that was made of them is shared, with its checks (reuse.go). That is done where all other
// sections are the same as before and nothing is at fault; else the whole is read anew, so that faults are always told
// by the same code. A check of a route's sections must look at the route and at other sections only, never at other
// routes: what routes do to one another is the check of [Config].
//
// # Warnings
//
// A sound configuration can hold what never takes effect: see [Config.Warnings]. Sections say it by a method warn,
// which is called where there is no fault. Which routes no request reaches is decided exactly (reach.go).
//
// # Failure policy
//
// There is a whole configuration or none: nothing is taken from a faulty one.
package config
