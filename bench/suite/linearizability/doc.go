// Package linearizability checks what clients and a service saw of real gateways that are killed,
// stopped and cut off from their store.
//
// Clients ([Load]) send keyed requests over and over, with a few bodies a key, to any gateway; a
// service ([Service]) executes them, responds late, fails or breaks off. Each request of a client
// is an [Operation] with the time of its call and of its return, each one that reached the service
// an [Execution]; both carry the operation's ID, which travels in a header. While they run, a test
// does harm: it kills processes (SIGKILL), stops them (SIGSTOP), fails a master over, fills a disk.
//
// Then [History.Check] decides whether there is an order of all that happened, within the times of
// call and return, that the specification of a key allows: linearizability (Herlihy and Wing,
// 1990), checked by porcupine, which is what Jepsen's Knossos does. The specification is in
// model.go:
//
//	free      -> claimed by a request of one body
//	claimed   -> executed by the service; under onUnknown: hold never again, under retry again with a higher attempt
//	executed  -> its response recorded: from there on every duplicate gets that response, and so
//	             does a late owner, whose own execution may have been another one
//
// A request without a response may have been taken or not, at any time after its call. Beside the
// order, plain facts are checked: a refusal executed nothing, a response is byte for byte the
// service's, the injected key is one to one with the client's.
//
// What is permitted, and only this: while the store is in trouble ([History.Trouble]) a response
// may go to its client without being recorded; over a failover ([History.Failover]) the store may
// forget its last steps. Both are counted in the [Report].
//
// # Running
//
// Each scenario does a few rounds of harm. Longer, and from a seed that was printed (it draws what
// clients, service and harm do; the processes have their own pace):
//
//	go test ./bench/suite/linearizability -run Redis -linearizability.for=5m -linearizability.seed=1 -timeout=1h -v
package linearizability
