package rawhttp

import (
	"io"
	"net"
	"slices"
	"testing"
)

// A gateway that passes on every byte is everything that the judge looks for.
func TestJudgeSeesThroughARelay(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"cl-te-basic":        "FAIL-SMUGGLE",
		"te-vertical-tab":    "FAIL-SMUGGLE",
		"te-after-bare-cr":   "FAIL-SMUGGLE",
		"cl-dup-different":   "FAIL-AMBIGUOUS",
		"te-gzip-chunked":    pass,
		"cl-dup-same":        "FAIL-AMBIGUOUS",
		"value-nul":          "FAIL-AMBIGUOUS",
		"host-two-same":      "FAIL-FORWARDED",
		"path-enc-dotdot":    "FAIL-POLICY",
		"conn-nominated":     "FAIL-MUSTNOT",
		"resp-204-with-body": "FAIL-MUSTNOT",
		"resp-cl-and-te":     "FAIL-AMBIGUOUS",
		"resp-cl-truncated":  pass,
		"chunk-valid":        pass,
		"pipeline-2":         pass,
		"expect-100":         pass,
	}
	cases, err := Load("cases.json")
	if err != nil {
		t.Fatal(err)
	}
	service := listen(t)
	runner := NewRunner(relay(t, service.Addr().String()), service)
	for i := range cases {
		c := &cases[i]
		verdict, ok := want[c.Name]
		if !ok {
			continue
		}
		delete(want, c.Name)
		r, err := runner.Run(c)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != verdict {
			t.Errorf("%s: %s (%s), want %s", c.Name, r.Verdict, r.Detail, verdict)
		}
	}
	for name := range want {
		t.Errorf("there is no case %s", name)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// relay passes bytes on in both directions, whatever they are, and returns its address.
func relay(t *testing.T, service string) string {
	l := listen(t)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go carry(client, service)
		}
	}()
	return l.Addr().String()
}

func carry(client net.Conn, service string) {
	defer client.Close()
	up, err := net.Dial("tcp", service)
	if err != nil {
		return
	}
	go func() {
		io.Copy(up, client)
		up.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(client, up)
	up.Close()
}

func TestJudge(t *testing.T) {
	t.Parallel()
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	refusal := "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n" +
		"Content-Length: 39\r\nConnection: close\r\n" +
		"Sluice-Reason: bad-request\r\n\r\n{\"status\":400, \"reason\": \"bad-request\"}"
	get := Case{Expect: "forward-ok", Methods: []string{"GET"}}
	refuse := Case{Expect: "reject-400", Methods: []string{"GET"}}
	problem := Case{Expect: "reject-400", Methods: []string{"GET"}, Problem: true, Statuses: []string{"400|431"}}
	seen := func(requests ...string) record {
		return record{requests: requests, bodies: make([][]byte, len(requests))}
	}
	for _, c := range []struct {
		name string
		c    Case
		o    observation
		want string
	}{
		{"answered", get, observation{client: []byte(ok), upstream: seen("GET /g")}, pass},
		{"answered after an interim answer", get, observation{client: []byte("HTTP/1.1 103 x\r\n\r\n" + ok),
			upstream: seen("GET /g")}, pass},
		{"sent twice", get, observation{client: []byte(ok), upstream: seen("GET /g", "GET /g")}, "FAIL-SMUGGLE"},
		{"answered by nobody", get, observation{client: []byte(ok)}, "FAIL-COUNT"},
		{"refused", get, observation{client: []byte(refusal)}, "FAIL-REJECTED"},
		{"poisoned", get, observation{client: []byte(ok), upstream: seen("GET /g"), probe: "another"}, "FAIL-POISON"},
		{"forwarded", refuse, observation{client: []byte(ok), upstream: seen("GET /g")}, "FAIL-FORWARDED"},
		{"refused as it should be", refuse, observation{client: []byte(refusal)}, pass},
		{"closed", refuse, observation{closed: true}, pass},
		{"hanging", refuse, observation{}, hang},
		{"refused with a problem", problem, observation{client: []byte(refusal), closed: true}, pass},
		{"refused and left open", problem, observation{client: []byte(refusal)}, "FAIL-WANT"},
		{"closed without a problem", problem, observation{closed: true}, "FAIL-WANT"},
	} {
		if r := judge(&c.c, c.o); r.Verdict != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, r.Verdict, r.Detail, c.want)
		}
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	s, err := parseScript(`a\r\n\x00\\{{REP:x\n*2}}{{PAUSE:5}}{{REPH:N*2}}`)
	if err != nil {
		t.Fatal(err)
	}
	if len(s) != 2 || string(s[0].Bytes) != "a\r\n\x00\\x\nx\n" || s[0].Pause.Milliseconds() != 5 ||
		string(s[1].Bytes) != "N0: v\r\nN1: v\r\n" {
		t.Errorf("parsed as %q", s)
	}
	for _, text := range []string{`\x0`, `\xzz`, "{{REP:a*2", "{{REP:a*b}}", "{{WHAT:1}}"} {
		if _, err := parseScript(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestReaders(t *testing.T) {
	t.Parallel()
	const inside = "GET /inside HTTP/1.1\r\n\r\n"
	for _, c := range []struct {
		name, bytes string
		seenBy      []string
	}{
		{"a sound one", "POST / HTTP/1.1\r\nContent-Length: 24\r\n\r\n" + inside, nil},
		{"several lengths", "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 24\r\n\r\n" + inside,
			[]string{"strict", "lenient Transfer-Encoding", "first Content-Length", "bare CR", "folded names"}},
		{"a bare CR", "POST / HTTP/1.1\r\nX: y\rContent-Length: 24\r\n\r\n" + inside,
			[]string{"strict", "lenient Transfer-Encoding", "first Content-Length", "last Content-Length",
				"folded names"}},
		{"a folded name", "POST / HTTP/1.1\r\nContent_Length: 24\r\n\r\n" + inside,
			[]string{"strict", "lenient Transfer-Encoding", "first Content-Length", "last Content-Length", "bare CR"}},
	} {
		var seenBy []string
		for _, r := range readers {
			if slices.Contains(r.requests([]byte(c.bytes)), "GET /inside") {
				seenBy = append(seenBy, r.name)
			}
		}
		if !slices.Equal(seenBy, c.seenBy) {
			t.Errorf("%s: the inner request is seen by %q, want %q", c.name, seenBy, c.seenBy)
		}
	}
}
