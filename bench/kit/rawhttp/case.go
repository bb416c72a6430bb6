package rawhttp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Case is one raw exchange and what may come of it. Scripts and patterns are described at their
// types.
type Case struct {
	Name    string `json:"name"`
	Cat     string `json:"cat"`
	Ref     string `json:"ref"`      // the rule that it is about
	MustNot string `json:"must_not"` // for readers
	Raw     Script `json:"raw"`      // what the client sends

	Expect string `json:"expect"` // forward-ok, reject-400 (any refusal) or either
	Best   string `json:"best"`   // reject-400: forwarding is allowed, but not strict
	Policy string `json:"policy"` // deny: nothing under /deny may reach the service

	NReq    int      `json:"n_req"`   // requests that the service is to see; 0 stands for 1
	Methods []string `json:"methods"` // of the requests whose responses are waited for; the first line's when empty

	WantStatus   int     `json:"want_status"` // of a forwarded exchange; 0 stands for 200
	WantBody     *string `json:"want_body"`
	WantRespBody *string `json:"want_resp_body"`

	UpNot     []Pattern `json:"up_not"`      // heads of requests at the service
	HeadNot   []Pattern `json:"head_not"`    // the same, for fields that may come as trailers
	BestUpNot []Pattern `json:"best_up_not"` // the same, costs only the strict verdict
	RespNot   []Pattern `json:"resp_not"`    // bytes at the client

	UpstreamResp Script `json:"upstream_resp"` // the service's response; an echo when empty
	// close: after the response; early: response before the body; drop: close without a response
	UpstreamMode string `json:"upstream_mode"`

	HalfClose      bool `json:"half_close"`      // the client closes its side after the last byte
	Incomplete     bool `json:"incomplete"`      // the request breaks off and must not arrive complete
	RespIncomplete bool `json:"resp_incomplete"` // the response breaks off and must not arrive complete
	Early          bool `json:"early"`           // for readers
	TEListOK       bool `json:"te_list_ok"`      // a list of codings that ends in chunked may be forwarded

	// What only cases-more.json says.
	Statuses []string `json:"statuses"` // of all final responses in order, each with alternatives: "400|431"
	Closes   bool     `json:"closes"`   // the gateway closes the connection after the last response
	// the last response is a problem body, says Connection: close and the connection is closed
	Problem  bool      `json:"problem"`
	UpHas    []Pattern `json:"up_has"` // some head at the service
	UpRawHas []Pattern `json:"up_raw_has"`
	UpRawNot []Pattern `json:"up_raw_not"` // all bytes at the service, trailers and tunnels included
	RespHas  []Pattern `json:"resp_has"`
}

// Load reads a file of cases.
func Load(path string) ([]Case, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var cases []Case
	if err := d.Decode(&cases); err != nil {
		return nil, fmt.Errorf("rawhttp: %s: %w", path, err)
	}
	names := make(map[string]bool)
	for i := range cases {
		c := &cases[i]
		if c.Name == "" || names[c.Name] {
			return nil, fmt.Errorf("rawhttp: %s: case %d has no name of its own: %q", path, i, c.Name)
		}
		names[c.Name] = true
		switch c.Expect {
		case "forward-ok", "reject-400", "either":
		default:
			return nil, fmt.Errorf("rawhttp: %s: %s: expect is %q", path, c.Name, c.Expect)
		}
		if len(c.Methods) == 0 {
			c.Methods = []string{c.Raw.method()}
		}
	}
	return cases, nil
}

// Pattern is a regular expression over bytes; its dot takes in line ends, ^ is the beginning of the
// text.
type Pattern struct{ *regexp.Regexp }

func (p *Pattern) UnmarshalJSON(b []byte) error {
	var text string
	err := json.Unmarshal(b, &text)
	if err == nil {
		p.Regexp, err = regexp.Compile("(?s)" + text)
	}
	return err
}

// Script is what one side writes: bytes with pauses between them. In JSON it is a text with the
// escapes \r \n \t \xHH \\ and the macros {{REP:text*n}}, {{REPH:name*n}} (n fields name0, name1,
// …) and {{PAUSE:ms}}.
type Script []Part

// Part is a stretch of bytes and how long the writer rests after it.
type Part struct {
	Bytes []byte
	Pause time.Duration
}

func (s *Script) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	parsed, err := parseScript(text)
	*s = parsed
	return err
}

func parseScript(text string) (Script, error) {
	var s Script
	var now []byte
	for text != "" {
		if macro, ok := strings.CutPrefix(text, "{{"); ok {
			body, rest, closed := strings.Cut(macro, "}}")
			if !closed {
				return nil, fmt.Errorf("rawhttp: a macro without an end: %.40q", text)
			}
			bytes, pause, err := expand(body)
			if err != nil {
				return nil, err
			}
			if now = append(now, bytes...); pause > 0 {
				s, now = append(s, Part{now, pause}), nil
			}
			text = rest
			continue
		}
		c, rest, err := unescape(text)
		if err != nil {
			return nil, err
		}
		now, text = append(now, c), rest
	}
	if len(now) > 0 {
		s = append(s, Part{Bytes: now})
	}
	return s, nil
}

func unescape(text string) (c byte, rest string, err error) {
	if text[0] != '\\' || len(text) == 1 {
		return text[0], text[1:], nil
	}
	switch text[1] {
	case 'r':
		return '\r', text[2:], nil
	case 'n':
		return '\n', text[2:], nil
	case 't':
		return '\t', text[2:], nil
	case 'x':
		if len(text) < 4 {
			return 0, "", fmt.Errorf("rawhttp: an escape without its digits: %q", text)
		}
		v, err := strconv.ParseUint(text[2:4], 16, 8)
		if err != nil {
			return 0, "", fmt.Errorf("rawhttp: escape %q: %w", text[:4], err)
		}
		return byte(v), text[4:], nil
	}
	return text[1], text[2:], nil
}

func expand(macro string) (b []byte, pause time.Duration, err error) {
	kind, argument, _ := strings.Cut(macro, ":")
	count := argument[strings.LastIndexByte(argument, '*')+1:]
	what := strings.TrimSuffix(argument, "*"+count)
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, 0, fmt.Errorf("rawhttp: macro %q: %w", macro, err)
	}
	switch kind {
	case "REP":
		for what != "" {
			c, rest, err := unescape(what)
			if err != nil {
				return nil, 0, err
			}
			b, what = append(b, c), rest
		}
		return bytes.Repeat(b, n), 0, nil
	case "REPH":
		for i := range n {
			b = fmt.Appendf(b, "%s%d: v\r\n", what, i)
		}
		return b, 0, nil
	case "PAUSE":
		return nil, time.Duration(n) * time.Millisecond, nil
	}
	return nil, 0, fmt.Errorf("rawhttp: no macro is called %q", kind)
}

// method is the first word that the script writes.
func (s Script) method() string {
	if len(s) == 0 {
		return ""
	}
	first, _, _ := strings.Cut(strings.TrimLeft(string(s[0].Bytes[:min(len(s[0].Bytes), 64)]), "\r\n "), " ")
	return first
}
