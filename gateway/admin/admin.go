package admin

import (
	"log/slog"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/admin/adminguard"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// Gateway is the running gateway, as the admin address sees it.
type Gateway interface {
	// Unready says why the gateway is not ready; "" when it is.
	Unready() string
	Status() Status
	// Config returns the configuration in force.
	Config() *config.Config
	// CheckConfig says what a reload would do with documents, and puts nothing of them in force. The
	// error says that this gateway cannot tell.
	CheckConfig(list []config.File) (plan.Check, error)
}

// Options are what the admin address shows and operates on.
type Options struct {
	Gateway Gateway
	Records idempotency.Store
	Codec   *idempotency.ResponseCodec // opens recorded responses
	Bridge  *transaction.Bridge        // nil without a coordinator
	// Breakers are those of the services.
	Breakers Breakers
	Metrics  prometheus.Gatherer
	PProf    bool // Go's profiles below /debug/pprof/
	Logger   *slog.Logger
}

// server serves the admin address.
type server struct{ Options }

// New returns the handler of the admin address.
func New(o Options) http.Handler {
	s := &server{o}
	mux := http.NewServeMux()
	s.addProbes(mux)
	s.addStatus(mux)
	adminguard.AddConfigCheck(mux, o.Gateway.CheckConfig)
	mux.HandleFunc("GET /api/idempotency", s.records)
	mux.HandleFunc("POST /api/idempotency/resolve", s.resolve)
	mux.HandleFunc("POST /api/idempotency/forget", s.forget)
	mux.HandleFunc("GET /api/breakers", s.listBreakers)
	mux.HandleFunc("POST /api/breakers/{service}", s.forceBreaker)
	mux.HandleFunc("GET /api/transactions", s.transactions)
	mux.HandleFunc("GET /api/transactions/{id}", s.transaction)
	mux.HandleFunc("POST /api/transactions/retry", s.retryTransactions)
	mux.HandleFunc("POST /api/transactions/{id}/resolve", s.resolveStep)
	mux.HandleFunc("POST /api/transactions/{id}/cancel", s.cancelTransaction)
	if o.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index) // the named ones too
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return adminguard.New(func() *config.Admin { return &o.Gateway.Config().Admin }, o.Logger, mux)
}

// NewProbes returns the handler of admin.probes: health and metrics, which anybody may see.
func NewProbes(o Options) http.Handler {
	mux := http.NewServeMux()
	(&server{o}).addProbes(mux)
	return mux
}

// NewWaiting returns the handler of the admin address of a gateway without a configuration: it has
// health, metrics, status and the settings that are known, and no records.
func NewWaiting(o Options) http.Handler {
	s := &server{Options: o}
	mux := http.NewServeMux()
	s.addProbes(mux)
	s.addStatus(mux)
	return adminguard.New(func() *config.Admin { return &o.Gateway.Config().Admin }, o.Logger, mux)
}

func (s *server) addStatus(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/status", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, s.Gateway.Status())
	})
	mux.HandleFunc("GET /api/config", s.config)
}

func (s *server) addProbes(mux *http.ServeMux) {
	adminguard.AddProbes(mux, s.Gateway.Unready, s.Metrics)
}

func writeJSON(w http.ResponseWriter, status int, v any) { adminguard.WriteJSON(w, status, v) }

func writeProblem(w http.ResponseWriter, status int, detail string) {
	adminguard.WriteProblem(w, status, detail)
}

func (s *server) config(w http.ResponseWriter, r *http.Request) {
	b, err := s.Gateway.Config().Redacted()
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(b) // as above
}
