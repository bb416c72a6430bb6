// Package examples runs the files of deploy/examples as their headers say, on real processes: the gateway, the
// coordinator, the services, MariaDB and Redis. It has tests only.
//
// The commands of a header are run as they stand, but for the ports; so is what the header says to try. Then, while a
// bounded load runs, each kind of process is killed with SIGKILL and started again, at moments that a seed chooses. At
// the end every transaction has to be at its end, what the clients were told true, and the books balanced.
//
// All examples run beside each other, on one coordinator, one MariaDB and one Redis, each with a gateway and services
// of its own. Without the race detector: that is for the tests of the parts.
//
// The short form is that of make examples. The long form kills again and again, and judges that each transaction ends
// within a minute after the fault's end:
//
//	go test ./bench/suite/examples -timeout 1h -args -rounds 20 -seed 7
package examples
