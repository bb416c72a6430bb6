package proxy

import "github.com/sluice-gateway/sluice/bench/load/measure"

// The loads, in the order in which they run.
var (
	loadGet  = measure.Get
	loadPost = measure.Load{Name: "POST, 512 bytes, keyed", Path: measure.SmallPath, Post: true,
		Keys: measure.FreshKeys}
	loadBig  = measure.Load{Name: "GET, 64 KiB responses", Path: measure.BigPath}
	loadHuge = measure.Load{Name: "GET, 1 MiB responses", Path: measure.HugePath}
	loadH2   = measure.Load{Name: "HTTP/2 GET", Protocol: measure.HTTP2}
	loadGRPC = measure.Load{Name: "gRPC unary", Protocol: measure.GRPC}

	loadTLS     = measure.GetTLS
	loadTLSBig  = measure.Load{Name: "HTTPS GET, 64 KiB responses", Protocol: measure.HTTPS, Path: measure.BigPath}
	loadTLSHuge = measure.Load{Name: "HTTPS GET, 1 MiB responses", Protocol: measure.HTTPS, Path: measure.HugePath}

	loadTLSH2 = measure.Load{Name: "HTTP/2 GET, TLS", Protocol: measure.HTTP2TLS}

	loads = []measure.Load{loadGet, loadPost, loadBig, loadHuge, loadH2, loadGRPC, loadTLS, loadTLSBig, loadTLSHuge,
		loadTLSH2}
)
