package redisx

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestParse: each kind of reply is read as what it is, and none before it is complete.
func TestParse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	for wire, want := range map[string]reply{
		"$5\r\na\r\nbc\r\n":                 {text: "a\r\nbc"},
		"$0\r\n\r\n":                        {text: ""},
		"$1\r\n1\r\n":                       {text: "1"},
		"$1\r\n\xff\r\n":                    {text: "\xff"},
		"$5000\r\n" + long + "\r\n":         {text: long},
		"+OK\r\n":                           {text: "OK"},
		":12\r\n":                           {text: "12"},
		"$-1\r\n":                           {refusal: redis.Nil},
		"_\r\n":                             {refusal: redis.Nil},
		"-NOSCRIPT none\r\n":                {refusal: refusal("NOSCRIPT none")},
		"!9\r\nOOM no\r\n!\r\n":             {refusal: refusal("OOM no\r\n!")},
		">2\r\n+moving\r\n$3\r\nabc\r\n":    {pushed: true},
		">0\r\n":                            {pushed: true},
		">2\r\n:1\r\n>1\r\n$-1\r\n":         {pushed: true},
		"-MOVED 1 127.0.0.1:7000 \r\n":      {refusal: refusal("MOVED 1 127.0.0.1:7000 ")},
		"$3\r\nKEY\r\n":                     {text: "KEY"},
		"-ERR Error running script: x\r\n":  {refusal: refusal("ERR Error running script: x")},
		":-1\r\n":                           {text: "-1"},
		fmt.Sprintf("$1\r\n%s\r\n", "\x00"): {text: "\x00"},
	} {
		for n := range len(wire) {
			_, size, least, err := parse([]byte(wire[:n]))
			if size != 0 || err != nil || least <= n || least > len(wire) {
				t.Errorf("%.20q without its end: %d bytes, at least %d, %v", wire[:n], size, least, err)
			}
		}
		got, size, _, err := parse([]byte(wire + "$1"))
		if got != want || size != len(wire) || err != nil {
			t.Errorf("%.20q: %+v, %d bytes of %d, %v", wire, got, size, len(wire), err)
		}
	}
	for _, wire := range []string{"*1\r\n$1\r\na\r\n", "\n", "x\r\n", "$-2\r\n", "$a\r\n", "$600000000\r\n", "$1\n",
		">1\r\n*0\r\n", "%1\r\n", "$1\r\nabc", "$3\r\na\r\n$1\r\n", "!1\r\nab\r\n", "-" + strings.Repeat("x", lineMax),
		strings.Repeat(">1\r\n", 100_000), ">100000\r\n", "$9999999999999999999\r\n"} {
		if _, _, _, err := parse([]byte(wire)); !errors.Is(err, errProtocol) {
			t.Errorf("%.40q: %v", wire, err)
		}
	}
	if err := error(refusal("NOSCRIPT none")); !redis.HasErrorPrefix(err, "NOSCRIPT") || !notRun(err) {
		t.Error("a refusal is none of Redis's errors")
	}
}
