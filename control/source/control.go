package source

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source/adsclient"
)

// Control is a configuration from a control plane.
//
// The first one is the control plane's, where it answers at once, else the last good one on disk; without either it
// waits. A configuration whose services need endpoints waits for them a moment before it is put in force. What the
// gateway refuses is refused at the control plane, with the reason. What is in force is kept on disk; a disk that fails
// is told of, and changes nothing else. Files that the configuration refers to are watched as those of [File]; what was
// refused is asked for again when its files change.
type Control struct {
	Servers   []string // host:port, in the order in which they are called
	Node      string   // the id
	Bootstrap string   // the path of the bootstrap file; empty: none
	// Reload has the bootstrap read again and the connection made anew; nil: nobody asks.
	Reload <-chan struct{}
	Logger *slog.Logger
	Build  string // the program's version

	// dial makes connections; nil: TCP.
	dial      func(ctx context.Context, address string) (net.Conn, error)
	client    *adsclient.Client // nil before First
	running   sync.WaitGroup    // the client
	end       func()            // ends it
	local     *local
	disk      *keeper
	diskTried bool
	endpoints map[string][]config.Endpoint // that are known, by service; none of nil
	inForce   *candidate                   // nil: none yet
	next      *candidate                   // that is not in force yet; nil: none
	refused   *refusal                     // of what came last; nil: it was not refused
	report    report
}

var (
	_ Source     = (*Control)(nil)
	_ Discoverer = (*Control)(nil)
	_ Waiting    = (*Control)(nil)
	_ Fleet      = (*Control)(nil)
	_ Composer   = (*Control)(nil)
)

const (
	// startWait is how long the control plane has at the start before the last good configuration is taken.
	startWait = 5 * time.Second
	// endpointsWait is how long a configuration waits for the endpoints of its services.
	endpointsWait = 5 * time.Second
)

// candidate is a configuration that may be put in force, or is.
type candidate struct {
	good
	cfg    *config.Config
	update *adsclient.Update // nil: from disk
	timer  *time.Timer       // fires when it has waited long enough for endpoints; nil: it does not wait
	waited bool
}

// refusal is a document that was refused, and what became of it here: another outcome means that it may be good now.
type refusal struct {
	document []byte
	files    fileList // that it refers to, as far as they are known
	outcome  string
}

// outcomeOf tells apart what a document makes of the files of this machine.
func outcomeOf(cfg *config.Config, err error) string {
	if err != nil {
		return err.Error()
	}
	return cfg.Hash()
}

// First implements [Source]. Where what it has returned before was refused, it returns another one.
func (c *Control) First(ctx context.Context) (*config.Config, error) {
	if c.client == nil {
		if err := c.start(ctx); err != nil {
			return nil, err
		}
	}
	if cfg := c.atStart(ctx); cfg != nil {
		return cfg, nil
	}
	c.Logger.Warn("waiting for the first configuration: none has come from a control plane, and none is on disk",
		"control", c.Servers, "node", c.Node)
	cfg, err := c.await(ctx, nil)
	if err != nil { // ctx has ended, so that there will be no Watch
		c.close()
	}
	return cfg, err
}

// start begins to connect.
func (c *Control) start(ctx context.Context) error {
	c.endpoints, c.local = map[string][]config.Endpoint{}, &local{path: c.Bootstrap}
	if err := c.local.load(); err != nil {
		return err
	}
	c.disk = newKeeper(lastGood{c.local.bootstrap.Data}, c.Logger)
	c.client = adsclient.New(adsclient.Options{
		Servers: c.Servers, Node: c.Node, Build: c.Build, Logger: c.Logger, TLS: c.local.transport,
		Dial: c.dial,
	})
	c.report.begin(c.client, c.disk, c.Servers, c.Node)
	// What it brings counts until Watch ends: behind the end of ctx requests may come for as long as drainDelay says.
	ctx, c.end = context.WithCancel(context.WithoutCancel(ctx))
	c.running.Go(func() { c.client.Run(ctx) })
	return nil
}

// close ends the client and the keeper.
func (c *Control) close() {
	c.end()
	c.running.Wait()
	c.disk.close()
}

// Own implements [Waiting].
func (c *Control) Own() (*config.Config, error) {
	b, err := config.LoadBootstrap(c.Bootstrap)
	if err != nil {
		return nil, err
	}
	return b.Empty()
}

// Compose implements [Composer]: the documents are read as a control plane would, and composed as what it sends.
func (c *Control) Compose(list []config.File) (*config.Config, error) {
	b, err := config.LoadBootstrap(c.Bootstrap)
	if err != nil {
		return nil, err
	}
	d, err := config.ParseDocuments(list, filepath.Dir(c.Bootstrap))
	if err != nil {
		return nil, err
	}
	return b.Compose(d.JSON())
}

// Refused implements [Waiting].
func (c *Control) Refused(err error) { c.refuse(err) }

// Discovered implements [Discoverer].
func (c *Control) Discovered() map[string][]config.Endpoint { return maps.Clone(c.endpoints) }

// Report implements [Fleet].
func (c *Control) Report(loads func() (requests, failed uint64)) { c.client.Report(loads) }

// atStart gives the control planes a moment and returns what one has, else the last good configuration; nil: neither.
func (c *Control) atStart(ctx context.Context) *config.Config {
	if c.diskTried {
		return nil
	}
	over, stop := context.WithTimeout(ctx, startWait)
	defer stop()
	go func() {
		select {
		case <-over.Done():
		case <-c.client.Failed():
			stop()
		}
	}()
	if cfg, _ := c.await(over, nil); cfg != nil {
		return cfg
	}
	c.diskTried = true
	g := c.disk.read()
	if g == nil || ctx.Err() != nil {
		return nil
	}
	cfg, err := c.local.bootstrap.Compose(g.Document)
	if err != nil {
		c.Logger.Error("the last good configuration on disk cannot be used", "version", g.Version, "error", err)
		return nil
	}
	c.Logger.Warn("no control plane has answered: the last good configuration is taken", "version", g.Version,
		"saved", g.Saved, "from", g.Server)
	maps.Copy(c.endpoints, g.Endpoints)
	c.next = &candidate{good: *g, cfg: cfg}
	return cfg
}

// await takes updates until there is a configuration to be tried.
func (c *Control) await(ctx context.Context, sink Sink) (*config.Config, error) {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	files := c.files()
	read := files.content()
	c.recompose(sink) // what changed before this look would never look changed
	c.askAgain()
	for !c.ready() {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case u := <-c.client.Updates():
			c.take(u, sink)
			// While the files are the same ones, what has changed since the last look is for the next one to see.
			if now := c.files(); !slices.Equal(now, files) {
				files, read = now, now.content()
				c.again(sink)
			}
		case <-c.waiting():
			c.next.waited = true
		case <-c.Reload:
			files = c.files()
			read = files.content()
			c.again(sink)
			c.client.Renew()
		case <-tick.C:
			files = c.files()
			if now := files.content(); now != read {
				read = now
				c.again(sink)
			}
		}
	}
	return c.next.cfg, nil
}

// Watch implements [Source]. It returns nil.
func (c *Control) Watch(ctx context.Context, sink Sink) error {
	defer c.close()
	c.accept() // what First has returned
	for {
		cfg, err := c.await(ctx, sink)
		if err != nil { // ctx has ended
			return nil
		}
		if lacking := c.lacking(); len(lacking) > 0 {
			c.Logger.Warn("a configuration is put in force without the endpoints of some services: none have come",
				"services", lacking, "waited", endpointsWait.String())
		}
		c.setEndpoints(cfg, sink)
		if err := sink.Apply(cfg); err != nil {
			c.refuse(err)
			continue
		}
		c.accept()
	}
}

// setEndpoints gives the sink the endpoints of a configuration that is about to be put in force. It has had them when
// they came, and forgets those of services that the one in force has not when that is put in force again.
func (c *Control) setEndpoints(cfg *config.Config, sink Sink) {
	for _, name := range discoveredIn(cfg) {
		if list := c.endpoints[name]; list != nil {
			sink.SetEndpoints(name, list)
		}
	}
}

// take notes what a control plane has sent. What is not sound is refused at once.
func (c *Control) take(u *adsclient.Update, sink Sink) {
	for _, e := range u.Endpoints {
		c.endpoints[e.Service] = e.Endpoints
		if sink != nil {
			sink.SetEndpoints(e.Service, e.Endpoints)
		}
	}
	if u.Configuration == nil {
		u.Ack()
		c.keep()
		return
	}
	c.drop() // the newer one counts
	if c.inForce != nil && c.inForce.Version == u.Configuration.Version {
		u.Ack() // it came from another control plane, or the same one again
		c.refused = nil
		return
	}
	next := &candidate{update: u, good: good{
		Version: u.Configuration.Version, Resource: u.Configuration.Resource, Server: u.Server,
		Document: u.Configuration.Document,
	}}
	var err error
	if next.cfg, err = c.local.bootstrap.Compose(next.Document); err != nil {
		c.refused = &refusal{next.Document, filesOf(err), outcomeOf(nil, err)}
		u.Nack(err)
		return
	}
	c.next = next
	c.subscribe()
	if len(c.lacking()) > 0 {
		c.next.timer = time.NewTimer(endpointsWait)
	}
}

// drop forgets a configuration that is not in force.
func (c *Control) drop() {
	if c.next != nil && c.next.timer != nil {
		c.next.timer.Stop()
	}
	c.next = nil
}

// subscribe asks for the endpoints of the services that are in force and of those that are to be.
func (c *Control) subscribe() {
	var names []string
	for _, one := range []*candidate{c.inForce, c.next} {
		if one != nil {
			names = append(names, discoveredIn(one.cfg)...)
		}
	}
	slices.Sort(names)
	c.client.Subscribe(slices.Compact(names))
}

// discoveredIn returns the services whose endpoints are not written.
func discoveredIn(cfg *config.Config) (names []string) {
	for name, s := range cfg.Services {
		if len(s.Endpoints) == 0 {
			names = append(names, name)
		}
	}
	return names
}

// lacking returns the services of the next configuration of which no endpoints are known.
func (c *Control) lacking() []string {
	return slices.DeleteFunc(discoveredIn(c.next.cfg), func(name string) bool { return c.endpoints[name] != nil })
}

// ready reports whether there is a configuration to be put in force now.
func (c *Control) ready() bool {
	switch {
	case c.next == nil:
		return false
	case c.next.timer == nil || c.next.waited:
		return true
	}
	return len(c.lacking()) == 0
}

// waiting fires when the next configuration has waited long enough; nil where none waits.
func (c *Control) waiting() <-chan time.Time {
	if c.next == nil || c.next.timer == nil || c.next.waited {
		return nil
	}
	return c.next.timer.C
}

// accept notes that the next configuration is in force.
func (c *Control) accept() {
	if c.next == nil {
		return
	}
	c.inForce = c.next
	c.drop()
	c.refused = nil
	if u := c.inForce.update; u != nil {
		c.inForce.Saved = time.Now()
		u.Ack()
	} else {
		c.client.Hold(c.inForce.Resource)
	}
	for name := range c.endpoints {
		if s := c.inForce.cfg.Services[name]; s == nil || len(s.Endpoints) > 0 {
			delete(c.endpoints, name)
		}
	}
	c.subscribe()
	c.keep()
	c.report.applied(c.inForce)
}

// refuse notes why the next configuration is not in force.
func (c *Control) refuse(err error) {
	c.refused = &refusal{c.next.Document, c.next.cfg.Files(), outcomeOf(c.next.cfg, nil)}
	if u := c.next.update; u != nil {
		u.Nack(err)
	} else {
		c.Logger.Error("the last good configuration cannot be put in force", "version", c.next.Version, "error", err)
	}
	c.drop()
	c.subscribe()
}

// keep has what is in force written to the disk.
func (c *Control) keep() {
	if c.inForce == nil {
		return
	}
	g := c.inForce.good
	g.Endpoints = maps.Clone(c.endpoints)
	c.disk.keep(&g)
}

// files are those that what is in force and what was refused are made of, beside the documents.
func (c *Control) files() fileList {
	list := c.local.files()
	if c.refused != nil {
		list = append(list, c.refused.files...)
	}
	if c.inForce != nil {
		list = append(list, c.inForce.cfg.Files()...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// again reads the bootstrap and the files, and has the document that is in force put in force with them. The control
// plane is not told: it has sent nothing. What it has sent and was refused it is asked for again.
func (c *Control) again(sink Sink) {
	changed, err := c.local.reload()
	if err != nil {
		c.tell(sink, err)
	}
	if changed {
		c.client.Renew()
	}
	c.recompose(sink)
	c.askAgain()
}

// askAgain has what was refused sent again where the files of this machine make something else of it by now.
func (c *Control) askAgain() {
	if c.refused == nil {
		return
	}
	if now := outcomeOf(c.local.bootstrap.Compose(c.refused.document)); now != c.refused.outcome {
		c.refused.outcome = now
		c.client.Renew()
	}
}

// recompose puts the document that is in force in force with the files as they are now, where they have changed.
func (c *Control) recompose(sink Sink) {
	if c.inForce == nil || sink == nil {
		return
	}
	cfg, err := c.local.bootstrap.Compose(c.inForce.Document)
	switch {
	case err != nil:
		c.tell(sink, err)
	case cfg.Hash() == c.inForce.cfg.Hash():
	case sink.Apply(cfg) == nil: // the sink reports what it refuses
		c.inForce.cfg = cfg
	}
}

// tell says that what this machine has of its own is at fault.
func (c *Control) tell(sink Sink, err error) {
	if sink != nil {
		sink.Refuse(err)
		return
	}
	c.Logger.Error("the bootstrap was refused; the old one stays", "error", err)
}
