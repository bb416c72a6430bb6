package redisx_test

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// A store keeps its scripts, and appends its keys and its argument to a call. Calls of many
// goroutines share round trips.
func Example() {
	client := redisx.Open(redisx.Options{Addresses: []string{"127.0.0.1:6379"}, Timeout: 500 * time.Millisecond})
	defer func() { _ = client.Close() }()

	take := redisx.NewScript(`
local left = tonumber(redis.call('GET', KEYS[1]) or '0') - tonumber(ARGV[1])
if left < 0 then return 'sold out' end
return redis.call('SET', KEYS[1], left).ok
`)
	call := redisx.NewCall()
	call.Buffer = append(call.Buffer, "stock:SKU-1"...)
	call.EndKey()
	call.Buffer = append(call.Buffer, "1"...)
	reply, err := client.Run(context.Background(), take, call, 1)
	if redisx.NeverSent(err) {
		fmt.Println("the stock is as it was")
		return
	}
	fmt.Println(reply, err)
}
