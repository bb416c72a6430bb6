package message

import (
	"strings"
	"testing"
)

func TestValidHost(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"": true, "a": true, "a.test:80": true, "a:": true, "127.0.0.1:8080": true, "[::1]": true,
		"[2001:db8::1]:443": true, "[::ffff:1.2.3.4]": true, "a_b-c.~x": true,
		":80": false, "a:b": false, "a:123456": false, "a:1:2": false, "::1": false, "[::1": false, "[::1]x": false,
		"[::1]:x": false, "[]": false, "[::]1": false,
		"[1:2]": false, "[1.2.3.4]": false, "[fe80::1%25eth0]": false, "a[b": false, "a/b": false, "a\\b": false,
		"u@a": false, "a,b": false, "a b": false, "a\x00": false,
		"a?b": false, "a#b": false, "a;b": false, "a%2eb": false, "\xc3\xa9": false,
	} {
		if ValidHost(s) != want {
			t.Errorf("ValidHost(%q) = %v", s, !want)
		}
	}
}

func TestCharacterClasses(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		s := string([]byte{byte(c)})
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		token := letter || c < 0x80 && c > 0 && strings.Contains("!#$%&'*+-.^_`|~", s)
		if Token(s) != token || Visible(s) != (c > ' ' && c < 0x7f) ||
			FieldValue(s) != (c >= ' ' && c != 0x7f || c == '\t') {
			t.Errorf("byte %#x: %v %v %v", c, Token(s), Visible(s), FieldValue(s))
		}
	}
	if Token("") || !Visible("") || !FieldValue("") {
		t.Error("an empty text is a value and no token")
	}
}
