package interop

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
)

// grpcCases are the cases of the interop client that need no account in a cloud. Beside those,
// pick_first_unary is left out: it asks for the server's id, which the Go server does not tell.
var grpcCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response",
	"status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service",
	"rpc_soak", "channel_soak", "orca_per_rpc", "orca_oob",
}

// grpcFlags are what a case needs beside its name. The soak counts slow calls as failures; on a
// busy machine they are none.
var grpcFlags = map[string][]string{
	"rpc_soak":     {"-soak_per_iteration_max_acceptable_latency_ms", "30000", "-soak_overall_timeout_seconds", "50"},
	"channel_soak": {"-soak_per_iteration_max_acceptable_latency_ms", "30000", "-soak_overall_timeout_seconds", "50"},
	"orca_per_rpc": {"-service_config_json", orcaBalancer},
	"orca_oob":     {"-service_config_json", orcaBalancer},
}

const orcaBalancer = `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`

func TestGRPCInterop(t *testing.T) {
	t.Parallel()
	server := startGRPCServer(t)
	t.Run("direct", func(t *testing.T) { t.Parallel(); runGRPCCases(t, server) })
	t.Run("gateway", func(t *testing.T) {
		t.Parallel()
		g := startGateway(t, fmt.Sprintf(`services:
  interop: {endpoints: ["h2c://%s"], timeout: 60s}
routes:
  - {name: grpc, match: {path: /**}, service: interop}
`, server))
		t.Run("cleartext", func(t *testing.T) { t.Parallel(); runGRPCCases(t, g.http) })
		t.Run("tls", func(t *testing.T) {
			t.Parallel()
			runGRPCCases(t, g.https, "-use_tls", "-use_test_ca", "-ca_file", certificate(t).certFile)
		})
	})
}

// startGRPCServer runs the interop server, which chooses its port, and returns its address.
func startGRPCServer(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(tool(t, "server"), "-port", "0")
	cmd.Env = append(os.Environ(), "GRPC_GO_LOG_SEVERITY_LEVEL=info")
	var port string
	startProcess(t, cmd, func(line []byte) bool {
		_, address, found := bytes.Cut(line, []byte("interop server listening on "))
		if found {
			port = string(address[bytes.LastIndexByte(address, ':')+1:])
		}
		return found
	})
	return net.JoinHostPort("127.0.0.1", port)
}

func runGRPCCases(t *testing.T, address string, flags ...string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	client := tool(t, "client")
	for _, name := range grpcCases {
		t.Run(name, func(t *testing.T) {
			args := slices.Concat(flags, grpcFlags[name], []string{"-server_host", host, "-server_port", port,
				"-test_case", name})
			if out, ok := run(t, client, args...); !ok {
				t.Errorf("the client failed:\n%s", out)
			}
		})
	}
}
