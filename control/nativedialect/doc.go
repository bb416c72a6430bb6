// Package nativedialect is what a control plane and a gateway of Sluice say to each other over xDS: which resources
// there are, and how a configuration and endpoints are written into them.
//
// # Resources
//
// The whole configuration is one resource of ECDS (envoy.config.core.v3.TypedExtensionConfig) of the name
// [ResourceName]: a xds.type.v3.TypedStruct of type [ConfigType] whose value is the document
// ([github.com/sluice-gateway/sluice/control/config.Document]). xDS is not atomic over types, so one resource is how a
// configuration is applied or refused as a whole. The endpoints of services that are discovered are
// ClusterLoadAssignments of EDS by the service's name: they change more often than the configuration.
//
// # Numbers
//
// The value of a TypedStruct is JSON whose numbers are float64. A whole number that a float64 does not hold stands in
// it as an object with the one member [wideNumber], so that every document arrives as it was sent: Document of
// Resource is the same bytes.
//
// # Bounds
//
// A document has at most 8 MiB (config's bound), an assignment at most [EndpointsMax] endpoints.
package nativedialect
