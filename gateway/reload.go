package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// watchPeriod is how often the configuration's files are looked at. Reading a few small files beats change notifications, which
// miss what network file systems and swapped symbolic links (Kubernetes) do.
const watchPeriod = time.Second

// watchConfig reloads when a file of the configuration has changed, or when it is asked to.
func (g *gateway) watchConfig(ctx context.Context) error {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	seen := contentOf(g.engine.Load().cfg.Files())
	// What changed between the first load and this look would never look changed.
	if cfg, err := g.Load(); err != nil || cfg.Hash() != g.engine.Load().cfg.Hash() {
		g.reload()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.Reload:
			seen = contentOf(g.engine.Load().cfg.Files()) // before it is read: a change meanwhile is seen again
			g.reload()
		case <-tick.C:
			now := contentOf(g.engine.Load().cfg.Files())
			if now != seen {
				seen = now
				g.reload()
			}
		}
	}
}

// contentOf digests the files, and of a folder the names in it, so that a new file is seen too.
func contentOf(paths []string) [32]byte {
	h := sha256.New()
	for _, p := range paths {
		h.Write([]byte(p + "\x00"))
		if names, err := os.ReadDir(p); err == nil {
			for _, n := range names {
				h.Write([]byte(n.Name() + "\x00"))
				if b, err := os.ReadFile(filepath.Join(p, n.Name())); err == nil {
					h.Write(b)
				}
			}
			continue
		}
		b, err := os.ReadFile(p)
		if err != nil {
			h.Write([]byte("unreadable\x00"))
			continue
		}
		sum := sha256.Sum256(b)
		h.Write(sum[:])
	}
	return [32]byte(h.Sum(nil))
}

// reload loads, checks and builds the new configuration and swaps it in. A fault anywhere leaves the old one in force; it is logged,
// counted and shown in the status.
func (g *gateway) reload() {
	old := g.engine.Load()
	fault := g.swap(old)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastLoad = time.Now()
	if fault != nil {
		g.lastFault = fault.Error()
		g.shared.metrics.reloads.WithLabelValues("refused").Inc()
		g.Logger.Error("the configuration was refused; the old one stays in force", "version", old.cfg.Hash(), "fault", fault.Error())
		return
	}
	g.lastFault = ""
	g.shared.metrics.reloads.WithLabelValues("applied").Inc()
	g.Logger.Info("the configuration was applied", "version", g.engine.Load().cfg.Hash())
}

func (g *gateway) swap(old *engine) error {
	cfg, err := g.Load()
	if err != nil {
		return err
	}
	if setting := fixedBy(old.cfg, cfg); setting != "" {
		return fmt.Errorf("gateway: %s differs from what is in force: that takes a restart", setting)
	}
	var certificates *tls.Config
	if cfg.Listen.HTTPS != nil {
		if certificates, err = tlsFor(cfg.Listen.HTTPS); err != nil {
			return err
		}
	}
	e, err := g.shared.build(cfg, g.coordinator, g.stopping)
	if err != nil {
		return err
	}
	g.engine.Store(e)
	g.tls.Store(certificates)
	g.shared.metrics.configInfo.Reset()
	g.shared.metrics.configInfo.WithLabelValues(cfg.Hash()).Set(1)
	return nil
}
