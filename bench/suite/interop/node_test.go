package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// nodeModules is a folder with the scripts of node/ and the packages of its lock file.
var nodeModules struct {
	once sync.Once
	dir  string
	err  error
}

// nodeScript is a command that runs a script of node/ with the ws package installed.
func nodeScript(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	node, npm := needed(t, "node"), needed(t, "npm")
	nodeModules.once.Do(func() { nodeModules.err = installNodeModules(npm) })
	if nodeModules.err != nil {
		t.Fatal(nodeModules.err)
	}
	cmd := exec.Command(node, filepath.Join(nodeModules.dir, script))
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+certificate(t).certFile)
	return cmd
}

func installNodeModules(npm string) (err error) {
	if nodeModules.dir, err = os.MkdirTemp("", "sluice-interop-"); err != nil {
		return err
	}
	if err := os.CopyFS(nodeModules.dir, os.DirFS("node")); err != nil {
		return err
	}
	cmd := exec.Command(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = nodeModules.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return nil
}

func startNodeServer(t *testing.T) *wsServer {
	s := &wsServer{ends: newWSEnds()}
	startProcess(t, nodeScript(t, "server.js"), func(line []byte) bool {
		var event struct {
			Port, Code int
			ID, Reason string
		}
		if json.Unmarshal(line, &event) != nil {
			return false
		}
		if event.Port != 0 {
			s.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(event.Port))
			return true
		}
		s.ends.of(event.ID) <- closed{event.Code, event.Reason}
		return false
	})
	return s
}

// nodeCommand and nodeResult are the lines to and from node/client.js.
type nodeCommand struct {
	Seq, Conn int
	Op        string
	URL       string   `json:",omitempty"`
	Protocols []string `json:",omitempty"`
	Deflate   bool
	Kind      kind     `json:",omitempty"`
	Parts     [][]byte `json:",omitempty"`
	Code      int      `json:",omitempty"`
	Reason    string   `json:",omitempty"`
}

type nodeResult struct {
	Seq             int
	Error, Protocol string
	Deflated        bool
	Kind            kind
	Data            []byte
	Closed          *closed
}

// nodeClient is a process that runs node/client.js. It is safe for concurrent use.
type nodeClient struct {
	stdin io.Writer

	mu      sync.Mutex
	seq     int
	waiting map[int]chan nodeResult // nil when the process has ended
}

func startNodeClient(t *testing.T) wsClient {
	cmd := nodeScript(t, "client.js")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cl := &nodeClient{stdin: stdin, waiting: map[int]chan nodeResult{}}
	startProcess(t, cmd, func(line []byte) bool { return string(line) == "ready" })
	go cl.read(stdout)
	return cl
}

func (cl *nodeClient) read(stdout io.Reader) {
	in := bufio.NewReader(stdout)
	for {
		line, err := in.ReadBytes('\n')
		var r nodeResult
		if err == nil {
			err = json.Unmarshal(line, &r)
		}
		cl.mu.Lock()
		if err != nil {
			for _, c := range cl.waiting {
				close(c)
			}
			cl.waiting = nil
			cl.mu.Unlock()
			return
		}
		cl.waiting[r.Seq] <- r
		delete(cl.waiting, r.Seq)
		cl.mu.Unlock()
	}
}

var errNodeEnded = errors.New("the node client has ended")

// command has the client do something and waits for the result.
func (cl *nodeClient) command(ctx context.Context, cmd nodeCommand) (nodeResult, error) {
	result, err := cl.begin(&cmd)
	if err != nil {
		return nodeResult{}, err
	}
	select {
	case r, ok := <-result:
		if !ok {
			return r, errNodeEnded
		}
		if r.Error != "" {
			return r, errors.New(r.Error)
		}
		return r, nil
	case <-ctx.Done():
		return nodeResult{}, fmt.Errorf("%s: %w", cmd.Op, ctx.Err())
	}
}

func (cl *nodeClient) begin(cmd *nodeCommand) (<-chan nodeResult, error) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.waiting == nil {
		return nil, errNodeEnded
	}
	cl.seq++
	cmd.Seq = cl.seq
	if cmd.Op == "dial" {
		cmd.Conn = cl.seq
	}
	line, err := json.Marshal(cmd)
	if err != nil {
		return nil, err
	}
	result := make(chan nodeResult, 1)
	cl.waiting[cmd.Seq] = result
	_, err = cl.stdin.Write(append(line, '\n'))
	return result, err
}

// nodeConn is a connection of the ws package.
type nodeConn struct {
	cl     *nodeClient
	ctx    context.Context
	id     int
	agreed nodeResult
}

func (cl *nodeClient) dial(ctx context.Context, url string, offer wsOffer) (wsConn, error) {
	r, err := cl.command(ctx, nodeCommand{Op: "dial", URL: url, Protocols: offer.Protocols, Deflate: offer.Deflate})
	return &nodeConn{cl, ctx, r.Seq, r}, err
}

func (n *nodeConn) protocol() string { return n.agreed.Protocol }
func (n *nodeConn) deflated() bool   { return n.agreed.Deflated }

func (n *nodeConn) send(k kind, data []byte) error { return n.sendFragments(k, [][]byte{data}) }

func (n *nodeConn) sendFragments(k kind, parts [][]byte) error {
	_, err := n.cl.command(n.ctx, nodeCommand{Op: "send", Conn: n.id, Kind: k, Parts: parts})
	return err
}

func (n *nodeConn) ping() error {
	_, err := n.cl.command(n.ctx, nodeCommand{Op: "ping", Conn: n.id})
	return err
}

func (n *nodeConn) receive() (kind, []byte, error) {
	r, err := n.cl.command(n.ctx, nodeCommand{Op: "receive", Conn: n.id})
	if err == nil && r.Closed != nil {
		err = r.Closed
	}
	return r.Kind, r.Data, err
}

func (n *nodeConn) close(code int, reason string) error {
	r, err := n.cl.command(n.ctx, nodeCommand{Op: "close", Conn: n.id, Code: code, Reason: reason})
	if err == nil && r.Closed != nil && r.Closed.Code != code {
		err = r.Closed
	}
	return err
}

// abort needs no result: when the client has ended, so has the connection.
func (n *nodeConn) abort() { _, _ = n.cl.begin(&nodeCommand{Op: "abort", Conn: n.id}) }
