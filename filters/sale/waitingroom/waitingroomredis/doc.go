// Package waitingroomredis keeps the lines of waiting rooms in Redis or a Redis Cluster (6.0 or later), shared by all
// gateways.
//
// # Algorithm
//
// A line is one hash, and an exchange one Lua script on it: [waitingroom.Line], by Redis's clock (TIME). A gateway
// makes at most 50 a second for a sale, whatever comes; the calls of several sales at the same moment share a round
// trip (package redisx).
//
// # Memory bound
//
// About 2.5 KiB a sale in Redis, whatever the number of buyers. A line is removed a day after it was used last, and
// not before the sale has opened.
//
// # Failure policy
//
// Each call is bounded by the client's timeout and is then an error. It is not sent again, but where Redis says that
// it has not run the script: admissions and numbers of a reply that was lost are used by nobody. A Redis that lost the
// line takes over what the gateways know of it with their next reports, so that every place stays what it was.
package waitingroomredis
