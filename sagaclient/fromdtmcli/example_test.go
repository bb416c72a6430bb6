package fromdtmcli_test

import (
	"fmt"

	"github.com/dtm-labs/client/dtmcli"

	"github.com/sluice-gateway/sluice/sagaclient"
	"github.com/sluice-gateway/sluice/sagaclient/fromdtmcli"
)

// A saga that was built with dtmcli is submitted by this client, with a context and typed outcomes.
func Example() {
	order := map[string]string{"sku": "SKU-1"}
	s := dtmcli.NewSaga("", sagaclient.GIDFor("order", "4711")).
		Add("http://stock/reserve", "http://stock/release", order).
		Add("http://payment/charge", "http://payment/refund", order)
	saga, err := fromdtmcli.Saga(s)
	if err != nil {
		fmt.Println(err)
		return
	}
	// client.SubmitAndWait(ctx, saga)
	fmt.Println(len(saga.Steps), saga.Steps[1].Action, string(saga.Steps[1].Payload))

	// Output:
	// 2 http://payment/charge {"sku":"SKU-1"}
}
