package config

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// allocated returns how many bytes f takes from the memory in all, freed or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// hostile returns documents that would take far more memory than they have bytes, with the line of the refusal and a
// part of it.
func hostile() []struct{ name, document, want string } {
	const head = "version: 1\nx:\n"
	lines := func(first string, n int, line func(i int) string) string {
		var b strings.Builder
		b.WriteString(head + first)
		for i := range n {
			b.WriteString(line(i))
		}
		return b.String()
	}
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "k%d: 1, ", i)
		}
		return "  - &a {" + b.String() + "}\n"
	}
	const values = "the file has more values than are read"
	return []struct{ name, document, want string }{
		{"merge keys", lines(members(1000), 16_000, func(int) string { return "  - {<<: *a}\n" }), "102:10: " + values},
		{"merge keys in lists", lines(members(1000), 1, func(int) string {
			return "  - {<<: [" + strings.Repeat("*a, ", 50_000) + "]}\n"
		}), "4:403: " + values},
		{"merge keys over merge keys", lines("  - &a0 {k: 1}\n", 20_000, func(i int) string {
			return fmt.Sprintf("  - &a%d {<<: *a%d, k%d: 1}\n", i+1, i, i)
		}), values},
		{"aliases of aliases", lines("  - &a0 [1, 2]\n", 30, func(i int) string {
			return fmt.Sprintf("  - &a%d [*a%d, *a%d]\n", i+1, i, i)
		}), values},
		{"aliases, deep", lines("  - &a0 [1]\n", 20_000, func(i int) string {
			return fmt.Sprintf("  - &a%d [*a%d]\n", i+1, i)
		}), "3:3: nested deeper than 128 with its aliases written out"},
		{"values in one line", head + "  [" + strings.Repeat("a,", 500_000) + "]\n", "3:1: " + values},
		{"members in one line", head + "  {" + strings.Repeat("a: ,", 250_000) + "}\n", "3:1: " + values},
		{"values in many lines", head + strings.Repeat("- \n", 340_000), values},
		{"lists", head + "  [" + strings.Repeat("[],", 340_000) + "]\n", "3:1: " + values},
		{"a file in a loop", head + "  '" + strings.Repeat("${file:f}", 20_000) + "'\n",
			"3:3: ${file:f}: values are expanded to more than 1048576 bytes in all"},
		{"a file in many values", lines("", 10_000, func(int) string { return "  - '${file:f}'\n" }),
			"19:5: ${file:f}: values are expanded to more than 1048576 bytes in all"},
		{"a variable in a loop", head + "  '" + strings.Repeat("${env:SLUICE_TEST_LONG}", 30_000) + "'\n",
			"3:3: ${env:SLUICE_TEST_LONG}: values are expanded to more than 1048576 bytes in all"},
		{"a long key", "version: 1\nservices: {" + strings.Repeat("k", 400_000) + ": {endpoints: [" +
			strings.Repeat("a,", 90_000) + "]}}\n", "2:12: a key of 400000 bytes, at most 1024 are read"},
		{"many faults", "version: 1\n" + strings.Repeat("unknown-key-of-some-length: {}\n", 1) +
			lines("", 30_000, func(i int) string { return fmt.Sprintf("unknown-key-%d: 1\n", i) })[len(head):],
			"more are not shown"},
	}
}

// TestHostileDocuments: what takes the memory of a gateway that reloads it is refused before it does, with the line and
// the limit.
func TestHostileDocuments(t *testing.T) {
	t.Setenv("SLUICE_TEST_LONG", strings.Repeat("x", 4000))
	dir := write(t, map[string]string{"f": strings.Repeat("x", expandMax)})
	for _, c := range hostile() {
		var err error
		taken := allocated(func() { _, err = Parse("t.yaml", []byte(c.document), dir) })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %.200v, want %s", c.name, err, c.want)
		}
		if limit := uint64(96 << 20); taken > limit {
			t.Errorf("%s: %d MiB were taken for %d KiB, at most %d MiB may be",
				c.name, taken>>20, len(c.document)>>10, limit>>20)
		}
	}
}

// TestFolderIsBounded: so are the files of a folder together, and the files that are referred to.
func TestFolderIsBounded(t *testing.T) {
	dir := t.TempDir()
	half := "version: 1\nservices:\n" + strings.Repeat("#"+strings.Repeat("-", 1000)+"\n", 900)
	for i := range 12 {
		name := filepath.Join(dir, fmt.Sprintf("%02d.yaml", i))
		if err := os.WriteFile(name, []byte(half), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := filepath.Join(dir, "09.yaml") + ":1:1: the files of the configuration have more than 8388608 bytes in all"
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%.300v, want %s", err, want)
	}

	many := t.TempDir()
	var doc strings.Builder
	doc.WriteString("version: 1\nservices:\n")
	for i := range 40 {
		name := filepath.Join(many, fmt.Sprint("ca", i))
		if err := os.WriteFile(name, make([]byte, documentMax), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&doc, "  s%d: {endpoints: [\"https://h\"], tls: {ca: ca%d}}\n", i, i)
	}
	_, err := Parse("t.yaml", []byte(doc.String()), many)
	if err == nil || !strings.Contains(err.Error(), "the files that the configuration refers to have more than") {
		t.Errorf("%.300v", err)
	}
}

// TestHostileDocumentsTakeNoTime: nor does a document keep the processor busy, or wait for a file.
func TestHostileDocumentsTakeNoTime(t *testing.T) {
	t.Setenv("SLUICE_TEST_SHORT", "x")
	dir := write(t, map[string]string{"long": strings.Repeat("x", documentMax+1)})
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	const head = "version: 1\nx-free: "
	for document, want := range map[string]string{
		head + "'" + strings.Repeat("${env:SLUICE_TEST_SHORT}", 40_000) + "'\n":      "",
		head + "'" + strings.Repeat("${", 500_000) + "'\n":                           "",
		head + "'" + strings.Repeat("${file:long}", 80_000) + "'\n":                  "more than 1048576 bytes",
		head + "'${file:pipe}'\n":                                                    "it is no regular file",
		head + "'${file:/dev/zero}'\n":                                               "it is no regular file",
		"version: 1\nlisten: {https: {address: ':1', cert: pipe, key: /dev/zero}}\n": "it is no regular file",
		"version: 1\nidentity: [{jwt: {keys: /dev/zero, audience: a}}]\n":            "it is no regular file",
	} {
		done := make(chan error, 1)
		go func() {
			_, err := Parse("t.yaml", []byte(document), dir)
			done <- err
		}()
		select {
		case err := <-done:
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%.60q: %.200v, want %q", document, err, want)
			}
		case <-time.After(2 * time.Minute): // a busy machine needs some seconds, a square of the length many minutes
			t.Fatalf("%.60q has not been read", document)
		}
	}
}

// FuzzBounds: no document takes more memory than a constant and a part for each of its bytes.
func FuzzBounds(f *testing.F) {
	for _, c := range hostile() {
		f.Add(c.document[:min(len(c.document), 4<<10)])
	}
	f.Fuzz(func(t *testing.T, document string) {
		taken := allocated(func() { _, _ = Parse("t.yaml", []byte(document), t.TempDir()) })
		if limit := uint64(96<<20 + 4<<10*len(document)); taken > limit {
			t.Errorf("%d bytes were taken for %d, at most %d may be", taken, len(document), limit)
		}
	})
}
