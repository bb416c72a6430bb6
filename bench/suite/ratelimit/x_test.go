package ratelimit
import (
 _ "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
 _ "github.com/envoyproxy/ratelimit/src/service_cmd/runner"
 _ "google.golang.org/grpc"
 _ "google.golang.org/protobuf/proto"
)
