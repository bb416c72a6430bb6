package discovery

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

func TestFileIsParsed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scheme, data, want, fault string
	}{
		{"http", "10.0.0.1:80\nhttp://10.0.0.2:8080\n", "[10.0.0.1:80 10.0.0.2:8080]", ""},
		{"http", "\ufeff# a comment\r\n\r\n10.0.0.1:80 # the first\r\n", "[10.0.0.1:80]", ""},
		{"https", "- \"https://[2001:db8::1]:443\"\n- '10.0.0.2:80'\n", "[10.0.0.2:80 [2001:db8::1]:443]", ""},
		{"http", ` ["http://a:1", "b:2"]`, "[a:1 b:2]", ""},
		{"http", "unix:///run/a.sock", "[/run/a.sock]", ""},
		{"http", "[]", "[]", ""},
		{"http", "# none at the moment\n", "[]", ""},
		{"http", "", "", "it has no bytes"},
		{"http", " \n\t\n", "", "it has no bytes"},
		{"http", "10.0.0.1:80\n10.0.0.2:80000\n", "", `line 2: "10.0.0.2:80000" is not an endpoint`},
		{"http", "10.0.0.1:80\n\nhttp://a/path\n", "", "line 3: "},
		{"http", "http://u:secret@a\n", "", "line 1: "},
		{"http", "h2c://a:1\nb:1\n", "", "line 2: \"a:1\" and \"b:1\": a service speaks HTTP/1.1 or h2c, not both"},
		{"http", `["a:1", 5]`, "", "it is not a JSON list of texts"},
		{"http", `["a:1", "a b"]`, "", "[1]: "},
		{"http", "[\"a:1\"", "", "it is not a JSON list of texts"},
		{"http", "{a: b}", "", "line 1: "},
	} {
		f := &file{from: &config.EndpointsFrom{Scheme: c.scheme}}
		list, err := f.parse([]byte(c.data))
		r := new(record)
		r.found(list, "")
		switch {
		case err != nil && (c.fault == "" || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%q: %v, want %s", c.data, err, c.fault)
		case err == nil && (c.fault != "" || fmt.Sprint(r.list) != c.want):
			t.Errorf("%q: %v, want %s%s", c.data, r.list, c.want, c.fault)
		}
	}
}

// TestFile: what is written is taken when it stands still; what is not right, or gone, changes nothing.
func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "endpoints")
	f := &file{from: &config.EndpointsFrom{Scheme: "http", File: path}}
	r := new(record)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := func(want, fault string) {
		t.Helper()
		f.look(r)
		if fmt.Sprint(r.list) != want || (r.err == nil) != (fault == "") ||
			r.err != nil && !strings.Contains(r.err.Error(), fault) {
			t.Fatalf("%v, %v; want %s, %s", r.list, r.err, want, fault)
		}
	}
	look("[]", path+": no such file or directory")
	write("a:1\n")
	look("[a:1]", "") // the first is taken as it is
	write("a:1\nb:1")
	look("[a:1]", "") // it may be written at this moment
	write("a:1\nb:1\nc:1\n")
	look("[a:1]", "")
	look("[a:1 b:1 c:1]", "")
	write("a:1\nb 1\n")
	look("[a:1 b:1 c:1]", "")
	look("[a:1 b:1 c:1]", path+": line 2: ")
	look("[a:1 b:1 c:1]", path+": line 2: ")
	write("")
	look("[a:1 b:1 c:1]", path+": line 2: ")
	look("[a:1 b:1 c:1]", path+": it has no bytes")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look("[a:1 b:1 c:1]", "no such file")
	write("a:1\nb:1\nc:1\n")
	founds := r.founds
	look("[a:1 b:1 c:1]", "")
	if r.founds != founds {
		t.Error("what is known is told again")
	}
	write("[]")
	look("[a:1 b:1 c:1]", "")
	look("[]", "")
	write(strings.Repeat("#", fileMax+1))
	look("[]", path+": it has more than 1048576 bytes")
}

func TestFileIsWatched(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "endpoints")
	b := newBench(t, Options{})
	b.Configure(services(t, "  a: {endpointsFrom: {file: "+path+"}}"))
	b.fault("a", "no such file")
	for _, text := range []string{"a:1", "a:1 b:1", "c:1"} {
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, " ", "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		b.want("a", strings.Fields(text)...)
		b.sound("a")
	}
	for _, want := range []string{"is at fault", "answers again", "have changed"} {
		if !strings.Contains(b.logged(), want) {
			t.Errorf("%q is not logged", want)
		}
	}
}
