package main

import (
	"context"
	"net/http"
	"time"
	_ "unsafe" // go:linkname

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/client/dtmgrpc"
	"github.com/dtm-labs/dtm/client/dtmgrpc/dtmgimp"
	"github.com/dtm-labs/dtm/dtmsvr"
	"github.com/dtm-labs/dtm/dtmutil"
	"github.com/gin-gonic/gin"
	"github.com/go-resty/resty/v2"
	"google.golang.org/grpc"
)

// The routes and their metrics are not exported by dtmsvr, and its StartSvr cannot be called
// without opening ":HTTP_PORT" and ":GRPC_PORT" on all interfaces. go.mod pins DTM; should a name
// go away with another version, the link fails and says so.

//go:linkname addRoute github.com/dtm-labs/dtm/dtmsvr.addRoute
func addRoute(engine *gin.Engine)

//go:linkname httpMetrics github.com/dtm-labs/dtm/dtmsvr.httpMetrics
func httpMetrics(engine *gin.Engine) *gin.Engine

// newHandler does what StartSvr does, but for the listeners, the registration with a service
// registry, and the JSON-RPC interface. The configuration is loaded and the store is up. calls sees
// every HTTP branch call.
func newHandler(branchTimeout time.Duration, calls http.RoundTripper) http.Handler {
	client := dtmcli.GetRestyClient()
	client.SetTimeout(branchTimeout)
	client.SetTransport(calls)
	client.SetCookieJar(nil)                                // one service's cookie is not for the next branch
	client.SetRedirectPolicy(resty.NoRedirectPolicy())      // a redirect turns POST into GET: it is no success
	dtmgrpc.AddUnaryInterceptor(grpcTimeout(branchTimeout)) // branches may still be gRPC services

	app := httpMetrics(dtmutil.GetGinApp())
	addRoute(app)
	app.POST("/api/dtmsvr/submitNew", submitNew)
	dtmsvr.CronUpdateTopicsMapOnce()
	return app
}

func grpcTimeout(limit time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
		opts ...grpc.CallOption) error {
		d := limit
		if s := dtmgimp.RequestTimeoutFromContext(ctx); s != 0 {
			d = time.Duration(s) * time.Second
		}
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}
