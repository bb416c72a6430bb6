package router

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/rawhttp"
)

// The segments of a canonical path decode to those of the request's path, with dot segments and
// empty ones resolved. A dot segment above the root and bytes that a path cannot have are refused.
func FuzzCanonicalSegments(f *testing.F) {
	for _, s := range []string{
		"/", "/a/b/../c", "/%2e/a/%2E%2e/b", "/a//b///", "/a%2Fb", "/a%5Cb", "/%00", "/..;/a", "/a/..", "/a/.", "/|%7c",
		"/%C3%a9", "/%25%32%65", "/a%3bb", "/..%2f",
	} {
		f.Add(s)
	}
	for _, file := range []string{"../../bench/kit/rawhttp/cases.json", "../../bench/kit/rawhttp/cases-more.json"} {
		cases, err := rawhttp.Load(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, c := range cases {
			if len(c.Raw) > 0 {
				if words := strings.Fields(string(c.Raw[0].Bytes)); len(words) > 1 && len(words[1]) < 1<<10 {
					path, _, _ := strings.Cut(words[1], "?")
					f.Add(path)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := Canonical(in)
		want, ok := segments(in)
		if err != nil {
			if got != "" {
				t.Fatalf("Canonical(%q) = %q with %v", in, got, err)
			}
			if ok && !refused(in) {
				t.Fatalf("Canonical(%q) is %v, but there is nothing to refuse", in, err)
			}
			return
		}
		if !ok || refused(in) {
			t.Fatalf("Canonical(%q) = %q, to be refused", in, got)
		}
		have, ok := segments(got)
		if !ok || !slices.Equal(have, want) {
			t.Fatalf("Canonical(%q) = %q: segments %q, want %q", in, got, have, want)
		}
		again, err := Canonical(got)
		if err != nil || again != got {
			t.Fatalf("Canonical(%q) = %q, again %q %v", in, got, again, err)
		}
		for i := range len(got) {
			if c := got[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\\;?#\"<>^`{|}[]", c) >= 0 {
				t.Fatalf("Canonical(%q) = %q has a %q", in, got, c)
			}
		}
		for _, escape := range []string{"%2F", "%5C", "%3B", "%2E", "%0", "%1", "%7F"} {
			if strings.Contains(strings.ToUpper(got), escape) {
				t.Fatalf("Canonical(%q) = %q has an escape that a service may take for more than a character", in, got)
			}
		}
	})
}

// segments returns the decoded segments of a path with its dot segments resolved; false when it
// leads above the root, or does not decode.
func segments(path string) ([]string, bool) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, false
	}
	var kept []string
	folder := false // the path ends in a slash
	for raw := range strings.SplitSeq(rest, "/") {
		s, err := url.PathUnescape(raw)
		if err != nil {
			return nil, false
		}
		switch folder = true; s {
		case "", ".":
		case "..":
			if len(kept) == 0 {
				return nil, false
			}
			kept = kept[:len(kept)-1]
		default:
			kept, folder = append(kept, s), false
		}
	}
	if folder {
		kept = append(kept, "")
	}
	return kept, true
}

// refused reports whether a path has a byte that it must not have, bare or escaped.
func refused(path string) bool {
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f {
			return true
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		s, err := url.PathUnescape(segment)
		if err != nil {
			return true
		}
		for i := range len(s) {
			if c := s[i]; c < ' ' || c == 0x7f || c == '/' || c == '\\' || c == ';' {
				return true
			}
		}
	}
	return false
}
