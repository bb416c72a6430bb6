package sagaclient

// wire is a transaction as DTM's HTTP interface takes it for prepare, submit and abort. The members
// and their order are those of dtmcli (client/dtmcli/dtmimp/trans_base.go, TransBase), so that what
// is sent is the same bytes.
type wire struct {
	GID            string            `json:"gid"`
	Type           string            `json:"trans_type"`            // saga, tcc, xa, msg
	CustomData     string            `json:"custom_data,omitempty"` // JSON: orders of a saga, delay of a message
	WaitResult     bool              `json:"wait_result,omitempty"`
	TimeoutToFail  int64             `json:"timeout_to_fail,omitempty"` // seconds, as the three below
	RequestTimeout int64             `json:"request_timeout,omitempty"`
	RetryInterval  int64             `json:"retry_interval,omitempty"`
	BranchHeaders  map[string]string `json:"branch_headers,omitempty"`
	Concurrent     bool              `json:"concurrent"`
	RetryLimit     int64             `json:"retry_limit,omitempty"`
	Steps          []wireStep        `json:"steps,omitempty"`    // saga, msg
	Payloads       []string          `json:"payloads,omitempty"` // saga, msg: one a step
	QueryPrepared  string            `json:"query_prepared,omitempty"`
	Protocol       string            `json:"protocol"` // empty: HTTP
	RollbackReason string            `json:"rollback_reason,omitempty"`
}

// wireStep has the members action and, in a saga, compensate: URLs.
type wireStep map[string]string

// payloadOf is the body of a branch call. DTM turns a call without one into GET.
func payloadOf(payload []byte) string {
	if len(payload) == 0 {
		return "{}"
	}
	return string(payload)
}
