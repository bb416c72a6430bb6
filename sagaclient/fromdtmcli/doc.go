// Package fromdtmcli submits transactions that a program has built with DTM's own client, dtmcli
// (github.com/dtm-labs/client/dtmcli), with the outcomes, contexts and time limits of package
// sagaclient.
//
//	s := dtmcli.NewSaga("", gid).Add(reserve, release, order).Add(charge, refund, order)
//	saga, err := fromdtmcli.Saga(s)
//	...
//	err = client.Submit(ctx, saga) // client is a sagaclient.Client
//
// [Message] does the same for a dtmcli.Msg. TCC and XA of dtmcli are functions that do the
// manager's part themselves; there is nothing to take over.
//
// What is sent is byte for byte what s.Submit() would have sent, but where a concurrent saga has
// orders that put its steps in a row: that is sent as steps in a row. The tests hold one against the
// other. The address of the coordinator is the client's and not the one in the dtmcli value.
//
// It is a module of its own, because dtmcli links MongoDB, Redis and gRPC: a program that imports
// only sagaclient gets none of them.
//
// # What is refused
//
// A transaction for gRPC, and a step whose payload was taken away: DTM calls such a step with GET.
// A gid that is not 8 to 60 of [0-9a-z] is refused by the client; those of dtmcli.MustGenGid have
// capital letters, and a coordinator on MySQL takes two that differ only in that for one. Take
// [github.com/sluice-gateway/sluice/sagaclient.NewGID].
//
// # Barriers
//
// Nothing changes for services: dtmcli.BarrierFromQuery reads the same query parameters, and a
// service may have dtmcli's barrier or that of sagaclient/participant, on the same table.
package fromdtmcli
