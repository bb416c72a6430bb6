package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// reference reads a member as encoding/json has it. ok is false where it is not there. repeated: a name on the way to
// it comes twice, so that the values have to be compared by hand.
func reference(text []byte, path []string) (value any, ok, repeated bool) {
	if len(path) == 0 {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		return value, d.Decode(&value) == nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	open, err := d.Token()
	if err != nil {
		return nil, false, false
	}
	found := 0
	for i := 0; d.More() && (open == json.Delim('{') || open == json.Delim('[')); i++ {
		name := strconv.Itoa(i)
		if open == json.Delim('{') {
			token, err := d.Token()
			if err != nil {
				return nil, false, false
			}
			name = token.(string)
		}
		var inner json.RawMessage
		if d.Decode(&inner) != nil {
			return nil, false, false
		}
		if name == path[0] {
			found++
			var again bool
			value, ok, again = reference(inner, path[1:])
			repeated = repeated || again
		}
	}
	return value, ok, repeated || found > 1
}

// halfPair reports whether a text has an escape of a surrogate or its replacement: encoding/json tells neither from the
// other, so names and values with one are left to the tables.
func halfPair(text []byte) bool {
	return bytes.Contains(bytes.ToLower(text), []byte(`\ud`)) || bytes.ContainsRune(text, utf8.RuneError) ||
		bytes.Contains(bytes.ToLower(text), []byte(`\ufffd`))
}

func check(t *testing.T, text []byte, path []string) {
	t.Helper()
	var d Document
	d.Scan(text, NewMembers(path, []string{"other"}))
	whole, isDocument, err := d.Member(nil)
	unmarked := bytes.TrimPrefix(text, utf8Mark)
	if want := json.Valid(unmarked) && utf8.Valid(text); isDocument != want {
		t.Fatalf("%q is a document: %v, %v; want %v", text, isDocument, err, want)
	}
	v, ok, err := d.Member(path)
	if !isDocument {
		if ok {
			t.Fatalf("%q has a member %v", text, path)
		}
		return
	}
	if !json.Valid(whole) || len(bytes.TrimSpace(whole)) != len(whole) {
		t.Fatalf("the document of %q is %q", text, whole)
	}
	if halfPair(text) {
		return
	}
	want, there, repeated := reference(unmarked, path)
	if repeated {
		return // TestRepeatedNames
	}
	if err != nil || ok != there {
		t.Fatalf("%v of %q is there: %v, %v; want %v", path, text, ok, err, there)
	}
	if !ok {
		return
	}
	got, err := v.Text()
	if err != nil {
		t.Fatalf("the text of %v of %q: %v", path, text, err)
	}
	switch want := want.(type) {
	case string:
		if v.Kind() != String || got != want {
			t.Fatalf("%v of %q is %q, want %q", path, text, got, want)
		}
	case json.Number:
		if v.Kind() != Number || got != want.String() {
			t.Fatalf("%v of %q is %q, want %q", path, text, got, want)
		}
	default:
		var compact bytes.Buffer
		if err := json.Compact(&compact, v); err != nil || compact.String() != got || cap(v.Compact()) < len(got) {
			t.Fatalf("%v of %q is %q, want %q, %v", path, text, got, compact.String(), err)
		}
	}
}

// FuzzScan holds acceptance and values against encoding/json.
func FuzzScan(f *testing.F) {
	for _, text := range []string{
		`{"a":{"b":[1,-0.5e+3,"x\u00e9\n"]}}`, `[[],{},[{}]]`, `{"a":1,"a":1}`, "\xef\xbb\xbfnull", `{"\u0061":"\/"}`,
		`{"a":01}`, `{"a":"\ud83d\ude00"}`, " [true , false] ", `{"a":1}{}`, `"`, `-`, `a=1`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(text), "a.b.0")
		f.Add([]byte(text), "0")
	}
	f.Fuzz(func(t *testing.T, text []byte, path string) { check(t, text, strings.Split(path, ".")) })
}

// TestAgainstTheStandardLibrary is [FuzzScan] over texts that are near documents: made by a grammar, then damaged.
func TestAgainstTheStandardLibrary(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	paths := [][]string{{"a"}, {"b"}, {"a", "b"}, {"0"}, {"a", "1"}, {"b", "a", "0"}, {"é"}, {"x y"}}
	for range 15_000 {
		text := []byte(document(r, 4))
		switch r.IntN(4) {
		case 0: // lost
			if i := r.IntN(len(text)); len(text) > 1 {
				text = append(text[:i:i], text[i+1:]...)
			}
		case 1: // replaced or put in
			i := r.IntN(len(text))
			const pieces = "\"\\,:{}[]0-.e \n\x00\xffut"
			at := r.IntN(len(pieces))
			text = []byte(string(text[:i]) + pieces[at:at+1] + string(text[i+r.IntN(2):]))
		}
		check(t, text, paths[r.IntN(len(paths))])
	}
}

// document writes a value, or nearly one.
func document(r *rand.Rand, depth int) string {
	space := func() string { return []string{"", "", "", " ", "\t", "\r\n"}[r.IntN(6)] }
	name := func() string {
		return []string{
			`"a"`, `"b"`, `"0"`, `"é"`, `"\u00e9"`, `"x\u0020y"`, `"\u0061"`, `"c"`, `""`, `"A"`,
		}[r.IntN(10)]
	}
	if depth > 0 && r.IntN(3) > 0 {
		var list []string
		object := r.IntN(3) > 0
		for range r.IntN(4) {
			item := space() + document(r, depth-1) + space()
			if object {
				item = space() + name() + space() + ":" + item
			}
			list = append(list, item)
		}
		if object {
			return "{" + strings.Join(list, ",") + space() + "}"
		}
		return "[" + strings.Join(list, ",") + space() + "]"
	}
	return []string{
		`"x"`, `"é\n\"\\"`, `"\u0041\u00e9\ud83d\ude00"`, `""`, "0", "-0", "12.50", "1e-7", "12345678901234567890123",
		"true", "false", "null", `"a b "`, "[]", "{}", `"\b\f\r\t\/"`,
	}[r.IntN(16)]
}

// TestRepeatedNames: whether a repeated name is a fault does not depend on how the two values are written, but on what
// they are.
func TestRepeatedNames(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 5_000 {
		a, b := document(r, 3), document(r, 3)
		if r.IntN(2) == 0 {
			b = rewrite(t, r, a)
		}
		text := `{"x":` + a + `,"y":0,"x":` + b + `}`
		_, ok, err := scan(text, "x").Member([]string{"x"})
		if same := canonical(t, a) == canonical(t, b); same != ok || same == errors.Is(err, Ambiguous) {
			t.Fatalf("%s: %v, %v, want that the values are the same: %v", text, ok, err, same)
		}
	}
}

// canonical writes a value token by token, with the escapes of encoding/json.
func canonical(t *testing.T, text string) string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var out strings.Builder
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if n, ok := token.(json.Number); ok {
			out.WriteString(n.String() + " ")
			continue
		}
		b, err := json.Marshal(token)
		if delim, ok := token.(json.Delim); ok {
			b, err = []byte(delim.String()), nil
		}
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(b, ' '))
	}
}

// rewrite writes the same value with other white space and other escapes.
func rewrite(t *testing.T, r *rand.Rand, text string) string {
	t.Helper()
	var out strings.Builder
	v := Value(text)
	for i := 0; i < len(v); {
		switch {
		case v[i] == '"':
			end := stringEnd(v, i)
			out.WriteByte('"')
			for content := v[i+1 : end-1]; len(content) > 0; {
				c, n := character(content)
				switch {
				case r.IntN(3) == 0 && c < 0x10000:
					out.WriteString(`\u` + strconv.FormatInt(int64(c)+0x10000, 16)[1:])
				default:
					out.Write(content[:n])
				}
				content = content[n:]
			}
			out.WriteByte('"')
			i = end
		case strings.IndexByte("{}[],:", v[i]) >= 0 && r.IntN(3) == 0:
			out.WriteString(string(v[i]) + "\n ")
			i++
		default:
			out.WriteByte(v[i])
			i++
		}
	}
	return out.String()
}
