package jsonscan

import (
	"errors"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func scan(text string, paths ...string) *Document {
	list := make([][]string, len(paths))
	for i, p := range paths {
		list[i] = strings.Split(p, ".")
	}
	d := new(Document)
	d.Scan([]byte(text), NewMembers(list...))
	return d
}

// member returns a member's text, "-" where there is none, or the fault.
func member(d *Document, path string) string {
	var names []string
	if path != "" {
		names = strings.Split(path, ".")
	}
	v, ok, err := d.Member(names)
	if !ok && err == nil {
		return "-"
	}
	text := ""
	if err == nil {
		text, err = v.Text()
	}
	if err != nil {
		return "! " + err.Error()
	}
	return text
}

func TestMembers(t *testing.T) {
	t.Parallel()
	const ambiguous = "! comes twice with different values"
	for _, c := range []struct{ text, path, want string }{
		{`{"a":"x"}`, "a", "x"},
		{` { "a" : [ 1 , { "b" : -0.0e+1 } ] } `, "a.1.b", "-0.0e+1"},
		{`{"a":[1,[2,3],{"b":"x y"}]}`, "a", `[1,[2,3],{"b":"x y"}]`},
		{"{\"a\":{ \"b\" :\t\"x  y\\\" \" ,\n\"c\":[ ] }}", "a", `{"b":"x  y\" ","c":[]}`},
		{`{"a":{"b":true,"c":false,"d":null}}`, "a.d", "null"},
		{`{"a":12345678901234567890123.00}`, "a", "12345678901234567890123.00"},
		{`{"a":1e2}`, "a", "1e2"},
		{`{"a":-0}`, "a", "-0"},
		{`[[0,"x"]]`, "0.1", "x"},
		{`[1]`, "1", "-"},
		{`[1]`, "00", "-"},
		{`[1]`, "-0", "-"},
		{`[1]`, "+0", "-"},
		{`{"0":1}`, "0", "1"},
		{`{"a":1}`, "b", "-"},
		{`{"A":1}`, "a", "-"},
		{`{"a":1}`, "a.b", "-"},
		{`{}`, "a", "-"},
		{`[]`, "a", "-"},
		{`"a"`, "a", "-"},
		{`null`, "a", "-"},
		{``, "a", "-"},
		// escapes, in names and in values
		{`{"\u0061":1}`, "a", "1"},
		{`{"\u00e9\ud83d\ude00\n":1}`, "é😀\n", "1"},
		{`{"\u0061b":1}`, "a", "-"},
		{`{"\ufffd":1}`, "\ufffd", "1"},
		{`{"\ud800":1}`, "\ufffd", "-"},
		{`{"a":"\"\\\/\b\f\n\r\t\u00E9\uD83D\uDE00é"}`, "a", "\"\\/\b\f\n\r\té😀é"},
		{`{"a":"x\u0000y"}`, "a", "x\x00y"},
		// names that come twice
		{`{"a":1,"a":2}`, "a", ambiguous},
		{`{"a":1,"b":0,"a":1}`, "a", "1"},
		{`{"a":1,"a":2,"a":1}`, "a", ambiguous},
		{`{"a":1,"\u0061":2}`, "a", ambiguous},
		{`{"a":1,"a":1.0}`, "a", ambiguous},
		{`{"a":1,"a":"1"}`, "a", ambiguous},
		{`{"a":"é😀","a":"\u00e9\ud83d\uDE00"}`, "a", "é😀"},
		{`{"a":"é","a":"è"}`, "a", ambiguous},
		{`{"a":"x","a":"xy"}`, "a", ambiguous},
		{`{"a":{"x":1},"a":{"x":2}}`, "a.x", ambiguous},
		{`{"a":{"x":1},"a":{}}`, "a.x", ambiguous},
		{`{"a":{"x":1},"a":0}`, "a.x", ambiguous},
		{`{"a":{"x":1},"a": {  "x" : 1 } }`, "a.x", "1"},
		{`{"a":{"x":1,"y":2},"a":{"y":2,"x":1}}`, "a.x", ambiguous},
		{`{"a":{"x":1,"x":2}}`, "a.x", ambiguous},
		{`{"a":{"x":1,"x":2}}`, "a", `{"x":1,"x":2}`},
		{`{"b":1,"b":2,"a":{"b":1,"b":2,"x":3}}`, "a.x", "3"},
		// half of a surrogate pair
		{`{"a":"\ud800"}`, "a", "! has half of a surrogate pair"},
		{`{"a":"\ude00\ud83d"}`, "a", "! has half of a surrogate pair"},
		{`{"a":"\ud800","b":1}`, "b", "1"},
		{`{"a":["\ud800"]}`, "a", `["\ud800"]`},
		{`{"a":"\ud800","a":"\ud801"}`, "a", ambiguous},
		// what is no JSON
		{`a=1&b=2`, "a", "-"},
		{`true=1`, "a", "-"},
		{`n=1`, "a", "-"},
		{`2026-11-27`, "a", "-"},
		{"\x00\x00\x00\x00\x05hello", "a", "-"},
		{"\xef\xbb\xbf", "a", "-"},
		{"\xff\xd8\xff\xe0 a picture", "a", "-"},
		// a byte order mark
		{"\xef\xbb\xbf{\"a\":1}", "a", "1"},
		{"\xef\xbb\xbf\xef\xbb\xbf{\"a\":1}", "a", "-"},
		{" \xef\xbb\xbf{\"a\":1}", "a", "-"},
	} {
		if got := member(scan(c.text, c.path), c.path); got != c.want {
			t.Errorf("%s of %q is %q, want %q", c.path, c.text, got, c.want)
		}
		if got := member(scan(c.text, "other", c.path, c.path+".deeper", "a.other"), c.path); got != c.want {
			t.Errorf("%s of %q, among others, is %q, want %q", c.path, c.text, got, c.want)
		}
		if got := member(scan(c.text, "other"), c.path); got != c.want {
			t.Errorf("%s of %q, that is not in the set, is %q, want %q", c.path, c.text, got, c.want)
		}
	}
}

// TestFaultsOfTheText: what begins as JSON is exactly one document by the grammar, or none of its members is read; what
// is wrong may stand far behind the member.
func TestFaultsOfTheText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Fault{
		`{"a":1}{"a":2}`: Several, `{"a":1} {"a":2}`: Several, "{\"a\":1}\n{\"a\":2}": Several, `{"a":1}}`: Several,
		`{"a":1}]`: Several, `{"a":1},`: Several, `{"a":1}x`: Several, "{\"a\":1}\x00": Several, `[] 1`: Several,
		`"x" "y"`: Several, "1\n2": Several, `1{"a":2}`: Several, `null {"a":1}`: Several, `7["a"]`: Several,
		`{"a":1`: Malformed, `{"a":1,}`: Malformed, `{,"a":1}`: Malformed, `{"a" 1}`: Malformed, `{"a":}`: Malformed,
		`{'a':1}`: Malformed, `{a:1}`: Malformed, `{"a":1 "b":2}`: Malformed, `{"a":1;"b":2}`: Malformed,
		`{"a":01}`: Malformed, `{"a":1.}`: Malformed, `{"a":.1}`: Malformed, `{"a":+1}`: Malformed, `{"a":1e}`: Malformed,
		`{"a":-}`: Malformed, `{"a":0x1}`: Malformed, `{"a":1e+}`: Malformed, `{"a":NaN}`: Malformed,
		`{"a":Infinity}`: Malformed, `{"a":tru}`: Malformed, `{"a":truex}`: Malformed, `{"a":nul`: Malformed,
		`{"a":"x}`: Malformed, `{"a":"\x"}`: Malformed, `{"a":"\u12"}`: Malformed, `{"a":"\u12g4"}`: Malformed,
		`{"a":"\`: Malformed, "{\"a\":\"x\ny\"}": Malformed, "{\"a\":\"x\x00y\"}": Malformed, "{\"a\":\"\x1f\"}": Malformed,
		`{"a":1,"b":[1,2}`: Malformed, `{"a":1,"b":[1,2`: Malformed, `{"a":1,"b":[1,]}`: Malformed,
		`{"a":1,"b":[,1]}`: Malformed, `{"a":1,"b":[1 2]}`: Malformed, `{"a":1,"b":{"c"}}`: Malformed,
		`{"a":1,"b":{"c":1]}`: Malformed, `{"a":1,"b":{"c":1,}}`: Malformed, `{"a":1/**/}`: Malformed, `{`: Malformed,
		`[`: Malformed, `"`: Malformed, `{"`: Malformed, `{"a`: Malformed, `{"a"`: Malformed, `{"a":`: Malformed,
		`[1`: Malformed, `[1,`: Malformed, "{\u00a0\"a\":1}": Malformed, "{\"a\":1,\v\"b\":1}": Malformed,
		"{\"a\":1,\"b\":\"\xff\"}": NotUTF8, "{\"a\":1,\"b\":\"\xed\xa0\x80\"}": NotUTF8,
		"{\"a\":1,\"b\":\"\xc0\x80\"}": NotUTF8, "\xfe\xff\x00{": NotUTF8, "\xff\xfe{\x00": NotUTF8,
		"\x00{\x00\"": NotUTF8, "\x00\x00\x00[\x00": NotUTF8, "{\x00\"\x00": Malformed,
	} {
		for _, path := range []string{"a", "b.0", "none", ""} {
			for _, d := range []*Document{scan(text, "a", "b.0"), scan(text, "a", "b.c.d"), scan(text, "none")} {
				names := strings.Split(path, ".")
				if path == "" {
					names = nil
				}
				if v, ok, err := d.Member(names); !errors.Is(err, want) || ok {
					t.Errorf("%s of %q is %q, %v, want that it %v", path, text, v, err, want)
				}
			}
		}
	}
}

// TestDepth: nesting ends where that of encoding/json does, whatever is nested and whether it is on a path or not.
func TestDepth(t *testing.T) {
	t.Parallel()
	onPath := strings.TrimSuffix(strings.Repeat("a.", depthMax), ".")
	for _, c := range []struct {
		open, inner, closing, path string
	}{
		{"[", "", "]", "0"},
		{`{"a":`, "1", "}", "x"},
		{`{"a":`, "1", "}", onPath},
		{`[{"a":`, "1", "}]", "0.a.0"},
	} {
		levels := depthMax / strings.Count(c.closing, c.closing[:1]) / len(c.closing)
		text := strings.Repeat(c.open, levels) + c.inner + strings.Repeat(c.closing, levels)
		if _, _, err := scan(text, c.path).Member(nil); err != nil {
			t.Errorf("%d levels of %s: %v", depthMax, c.open, err)
		}
		for _, more := range []string{"[" + text + "]", `{"a":` + text + "}", text[:len(c.open)*levels] + "[]" +
			text[len(c.open)*levels+len(c.inner):]} {
			if _, _, err := scan(more, c.path).Member(nil); !errors.Is(err, TooDeep) {
				t.Errorf("%d levels of %s and one more: %v", depthMax, c.open, err)
			}
		}
	}
}

// hostile are documents of that size that would be many times as much as a tree, each with a member to look up.
func hostile(size int) map[string]string {
	fill := func(head, unit, tail string) string {
		return head + strings.Repeat(unit, (size-len(head)-len(tail))/len(unit)) + tail
	}
	return map[string]string{
		"many small objects":   fill(`{"x":1,"a":[{"a":0}`, `,{"a":0}`, `]}`),
		"many members":         fill(`{"x":1`, `,"":0`, `}`),
		"many repeated names":  fill(`{"x":1`, `,"x":1`, `}`),
		"many repeated values": fill(`{"x":[`+strings.Repeat(" ", size/4)+`]`, `,"x":[]`, `}`),
		"deep nesting":         fill(`{"x":1,"a":[0`, `,`+strings.Repeat("[", 999)+strings.Repeat("]", 999), `]}`),
		"too deep nesting":     fill(`{"x":1,"a":`, `[`, ``),
		"long escapes":         fill(`{"x":"`, `\u00e9`, `"}`),
		"an escape behind":     fill(`{"x":"`, `y`, `\n"}`),
		"escaped names":        fill(`{"x":1`, `,"\u0078":1`, `}`),
		"white space":          fill(`{"x":[`, ` `, `1]}`),
		"spaced list":          fill(`{"x":[1`, ` ,1`, `]}`),
		"a long number":        fill(`{"x":1`, `0`, `}`),
		"a form":               fill(`x=`, `{"x":`, ``),
	}
}

// TestAllocatesAtMostTwiceTheBody: looking a member up and taking its text never costs more memory than twice the text
// that it is in, whatever that holds.
func TestAllocatesAtMostTwiceTheBody(t *testing.T) {
	for name, text := range hostile(1 << 20) {
		body, members := []byte(text), NewMembers([]string{"x"}, []string{"a", "7", "a"}, []string{"x", "0"})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var d Document
		d.Scan(body, members)
		if v, ok, err := d.Member([]string{"x"}); ok && err == nil {
			if _, err := v.Text(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 2*uint64(len(body)) {
			t.Errorf("%s: %d bytes allocated for a body of %d", name, got, len(body))
		}
	}
}

// TestScanAllocatesNothing once a document has its room.
func TestScanAllocatesNothing(t *testing.T) {
	body := []byte(`{"id":"7f3a","sku":"SKU-1","qty":2,"cart":{"lines":[{"n":1},{"n":2}],"note":"\u00e9"},"\u0075":1}`)
	members := NewMembers([]string{"sku"}, []string{"cart", "lines", "1", "n"}, []string{"qty"}, []string{"u"})
	path := []string{"cart", "lines", "1", "n"}
	var d Document
	allocs := testing.AllocsPerRun(100, func() {
		d.Scan(body, members)
		v, ok, err := d.Member(path)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if text, err := v.Text(); text != "2" || err != nil {
			t.Fatal(text, err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// TestOneSetReadsOnce: a text with many members of a set is gone over once, and each of them is found.
func TestOneSetReadsOnce(t *testing.T) {
	t.Parallel()
	var paths [][]string
	var text strings.Builder
	for i := range 200 {
		name := strconv.Itoa(i)
		paths = append(paths, []string{"m" + name, "v"})
		text.WriteString(`,"m` + name + `":{"v":` + name + `}`)
	}
	var d Document
	d.Scan([]byte("{"+text.String()[1:]+"}"), NewMembers(paths...))
	for i, p := range paths {
		if v, ok, err := d.Member(p); !ok || err != nil || string(v) != strconv.Itoa(i) {
			t.Errorf("%v is %q, %v, %v", p, v, ok, err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	texts := hostile(8 << 20)
	texts["a short body"] = `{"id":"7f3a","sku":"SKU-1","qty":2,"cart":{"lines":[{"n":1},{"n":2}],"note":"caf\u00e9"}}`
	for name, text := range texts {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			body := []byte(text)
			members := NewMembers([]string{"x"}, []string{"sku"}, []string{"cart", "lines", "1", "n"})
			b.SetBytes(int64(len(body)))
			var d Document
			for b.Loop() {
				d.Scan(body, members)
			}
		})
	}
}
