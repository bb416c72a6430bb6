package systemd

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Manager is who started the process and is told how it stands. A nil one is nobody. It is safe for concurrent use.
type Manager struct {
	address  net.UnixAddr
	watchdog time.Duration
	logger   *slog.Logger

	mu     sync.Mutex
	failed time.Time // when a failure was logged last
	status string    // that was sent last
}

const (
	sendLimit   = time.Second // a manager that does not read
	failedEvery = time.Minute
	statusBytes = 400 // of the line in `systemctl status`
)

// Supervisor returns who is at NOTIFY_SOCKET of the environment; nil without it.
func Supervisor(logger *slog.Logger) *Manager {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		logger.Warn("WATCHDOG_USEC is no time: the watchdog gets nothing", "error", err)
	}
	return &Manager{address: net.UnixAddr{Name: path, Net: "unixgram"}, watchdog: interval, logger: logger}
}

// Ready says that requests are served, at the start and behind [Manager.Reloading].
func (m *Manager) Ready(status string) { m.send("READY=1", statusLine(status)) }

// Reloading says that a configuration is being put in force.
func (m *Manager) Reloading() {
	m.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonicMicroseconds()))
}

// Stopping says that the process ends, which may take so long.
func (m *Manager) Stopping(status string, limit time.Duration) {
	m.send("STOPPING=1", statusLine(status), extension(limit))
}

// Waiting says that the start goes on, and takes so long at least.
func (m *Manager) Waiting(status string, limit time.Duration) {
	m.send(statusLine(status), extension(limit))
}

// Status says how the process stands, where that has changed.
func (m *Manager) Status(status string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	same := m.status == status
	m.status = status
	m.mu.Unlock()
	if !same {
		m.send(statusLine(status))
	}
}

// Alive says that the process is well.
func (m *Manager) Alive() { m.send("WATCHDOG=1") }

// Watchdog returns how often [Manager.Alive] is to be called at least; 0 is never.
func (m *Manager) Watchdog() time.Duration {
	if m == nil {
		return 0
	}
	return m.watchdog / 2
}

func extension(d time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds())
}

// statusLine makes one line of it, whatever it has.
func statusLine(status string) string {
	status = strings.Join(strings.Fields(status), " ")
	if len(status) > statusBytes {
		status = strings.ToValidUTF8(status[:statusBytes], "") + "…"
	}
	return "STATUS=" + status
}

func (m *Manager) send(lines ...string) {
	if m == nil {
		return
	}
	if err := m.try(strings.Join(lines, "\n")); err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if now := time.Now(); now.Sub(m.failed) >= failedEvery {
			m.failed = now
			m.logger.Warn("the service manager cannot be told how the gateway stands", "socket", m.address.Name,
				"error", err)
		}
	}
}

// try sends one datagram. A new socket each time: a manager may be started anew.
func (m *Manager) try(message string) error {
	c, err := net.DialUnix(m.address.Net, nil, &m.address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return err
	}
	_, err = c.Write([]byte(message))
	return err
}
