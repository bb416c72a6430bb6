package policy

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/waitingroom"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// TicketField is the field in which a program brings its ticket, unless a sale has another one. Others that begin so
// are taken out of requests.
const TicketField = "Sluice-Ticket"

// ticketSecretBytes is how long a secret of tickets is that the store keeps.
const ticketSecretBytes = 32

// Ticketed reports whether a sale of the configuration has its clients bring tickets in [TicketField].
func Ticketed(cfg *config.Config) bool {
	for _, c := range cfg.Sales {
		if c != nil && hasWaitingRoom(c) && strings.EqualFold(waitingRoomOf(c).Header, TicketField) {
			return true
		}
	}
	return false
}

// waitingRooms are those of a process, as a part of the policy of sales.
type waitingRooms struct {
	env      *Env
	rooms    *Pool[string, *waitingroom.Room] // by sale
	outcomes *metric.CounterVec               // sale, outcome
}

func newWaitingRooms(env *Env) *waitingRooms {
	w := &waitingRooms{
		env:   env,
		rooms: NewPool[string, *waitingroom.Room](env, nil),
		outcomes: env.Metrics.Counter("sale_waiting_room_total",
			"Requests of buyers to be admitted to a sale by outcome: admitted, waited (told to come back), "+
				"refused-ticket (theirs is forged, or of another sale), store-failure.", "sale", "outcome"),
	}
	env.Metrics.Add(&waitingCollector{rooms: w})
	return w
}

// hasWaitingRoom reports whether buyers may have to wait for their admission.
func hasWaitingRoom(c *config.Sale) bool { return c.Admit != nil || c.WaitingRoom != nil }

// waitingRoomOf returns the section, or what holds without it: a rate alone does not open the room before the sale.
func waitingRoomOf(c *config.Sale) config.WaitingRoom {
	if c.WaitingRoom != nil {
		return *c.WaitingRoom
	}
	d := config.DefaultWaitingRoom()
	d.OpensBefore = 0
	return d
}

func (w *waitingRooms) settings(name string, c *config.Sale) waitingroom.Settings {
	room := waitingRoomOf(c)
	s := waitingroom.Settings{
		Sale: name, Opens: c.Opens.Time(), OpensBefore: time.Duration(room.OpensBefore),
		TicketTTL: time.Duration(room.TicketTTL), Cookie: room.Cookie, Header: room.Header,
	}
	if c.Admit != nil {
		s.Rate = float64(c.Admit.Count) / c.Admit.Period.Seconds()
	}
	if room.Secret != "" {
		s.Secret = []byte(room.Secret)
	}
	return s
}

// gate returns the waiting room of a sale for a build; nil where it has none.
func (w *waitingRooms) gate(b *Build, name string, c *config.Sale) (sale.Gate, error) {
	if !hasWaitingRoom(c) {
		return nil, nil
	}
	settings := w.settings(name, c)
	return Use(b, w.rooms, name,
		func() (*waitingroom.Room, error) {
			return waitingroom.New(settings, waitingroom.Options{
				Store: w.env.Stores.Waiting, Now: w.env.Now, Logger: w.env.Logger, Metrics: w.metrics(name),
				Secret: func(ctx context.Context) ([]byte, error) {
					return w.env.Stores.Records.Secret(ctx, "sale-tickets", ticketSecretBytes)
				},
			}), nil
		},
		func(r *waitingroom.Room) { r.Configure(settings) })
}

func (w *waitingRooms) metrics(name string) waitingroom.Metrics {
	of := func(outcome string) *metric.CounterSeries { return w.outcomes.WithLabelValues(name, outcome) }
	return waitingroom.Metrics{Admitted: of("admitted"), Waited: of("waited"), Refused: of("refused-ticket"),
		Failures: of("store-failure")}
}

// explain writes how the sale admits.
func (w *waitingRooms) explain(e *Explainer, c *config.Sale) {
	if !hasWaitingRoom(c) {
		return
	}
	room := waitingRoomOf(c)
	rate, before, secret := "any number of buyers", "", "the secret is the store's"
	if c.Admit != nil {
		rate = c.Admit.String() + " of the fleet"
	}
	if room.OpensBefore > 0 && !c.Opens.Time().IsZero() {
		before = ", from " + room.OpensBefore.String() + " before it opens"
	}
	if room.Secret != "" {
		secret = "the secret is configured"
	}
	e.Line("", "admits %s, others wait%s; tickets hold %s, in the cookie %s or the field %s; %s", rate, before,
		room.TicketTTL, room.Cookie, room.Header, secret)
}

// waitsForOpening reports whether a request at that moment waits for the sale to open.
func waitsForOpening(c *config.Sale, now time.Time) bool {
	if !hasWaitingRoom(c) {
		return false
	}
	opens, before := c.Opens.Time(), time.Duration(waitingRoomOf(c).OpensBefore)
	return now.Before(opens) && !now.Before(opens.Add(-before))
}

// status returns what each room heard from the store last.
func (w *waitingRooms) status() map[string]waitingroom.Status {
	out := map[string]waitingroom.Status{}
	for name, r := range w.rooms.All() {
		out[name] = r.Status()
	}
	return out
}

// waitingCollector publishes the numbers of the lines.
type waitingCollector struct{ rooms *waitingRooms }

var (
	waitingDesc = metric.NewDesc(metric.Gauge, "sale_waiting", "Buyers who wait for their admission to a sale.", "sale")
	servedDesc  = metric.NewDesc(metric.Gauge, "sale_served",
		"The number in the queue of a sale that is being served: buyers with this number or a lower one are admitted.",
		"sale")
	waitDesc = metric.NewDesc(metric.Gauge, "sale_wait_seconds",
		"How long a buyer who comes to a sale now has to wait for admission, in seconds, at its present rate.", "sale")
)

// Descs implements [metric.Collector].
func (c *waitingCollector) Descs() []*metric.Desc {
	return []*metric.Desc{waitingDesc, servedDesc, waitDesc}
}

// Collect implements [metric.Collector].
func (c *waitingCollector) Collect(to chan<- prometheus.Metric) {
	for name, s := range c.rooms.status() {
		to <- waitingDesc.Value(float64(s.Waiting), name)
		to <- servedDesc.Value(float64(s.Serving), name)
		to <- waitDesc.Value(s.Estimate, name)
	}
}
