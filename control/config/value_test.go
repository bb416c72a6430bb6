package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)

func TestWrittenValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		to    encoding.TextUnmarshaler
		text  string
		print string // empty: refused
	}{
		{new(Duration), "250ms", "250ms"}, {new(Duration), "10s", "10s"}, {new(Duration), "24h", "24h"},
		{new(Duration), "75s", "75s"},
		{new(Duration), "1h30m", "90m"}, {new(Duration), "1.5s", "1500ms"}, {new(Duration), "0.5ms", "0.5ms"},
		{new(Duration), "0s", "0s"},
		{new(Duration), "", ""}, {new(Duration), "0", ""}, {new(Duration), "1d", ""}, {new(Duration), "-1s",
			""}, {new(Duration), "9999999999h", ""},
		{new(Size), "512B", "512B"}, {new(Size), "64KiB", "64KiB"}, {new(Size), "1024KiB", "1MiB"}, {new(Size),
			"2GiB", "2GiB"}, {new(Size), "0B", "0B"},
		{new(Size), "64KB", ""}, {new(Size), "64", ""}, {new(Size), "99999999999GiB", ""}, {new(Size),
			"99999999999999999999B", ""},
		{new(ByteRate), "256B/s", "256B/s"}, {new(ByteRate), "2048B/s", "2KiB/s"}, {new(ByteRate), "0B/s", "0B/s"},
		{new(ByteRate), "256", ""}, {new(ByteRate), "256B", ""}, {new(ByteRate), "256/s", ""},
		{new(ByteRate), "256B/m", ""}, {new(ByteRate), "-1B/s", ""}, {new(ByteRate), "99999999999GiB/s", ""},
		{new(Percent), "50%", "50%"}, {new(Percent), "0.5%", "0.5%"}, {new(Percent), "100%", "100%"},
		{new(Percent), "100.1%", ""}, {new(Percent), "50", ""},
		{new(Rate), "100/s", "100/s"}, {new(Rate), "20/m", "20/m"}, {new(Rate), "1000/h", "1000/h"},
		{new(Rate), "7/d", "7/d"},
		{new(Rate), "0/s", ""}, {new(Rate), "1/w", ""},
		{new(Rate), "2000000000/s", ""},
		{new(StatusRange), "404", "404"}, {new(StatusRange), "2xx", "2xx"}, {new(StatusRange), "6xx", ""},
		{new(StatusRange), "99", ""}, {new(StatusRange), "2XX", ""},
	} {
		err := c.to.UnmarshalText([]byte(c.text))
		if c.print == "" {
			if err == nil {
				t.Errorf("%T %q is taken", c.to, c.text)
			}
			continue
		}
		if got := fmt.Sprint(reflect.ValueOf(c.to).Elem().Interface()); err != nil || got != c.print {
			t.Errorf("%T %q: %s, %v, want %s", c.to, c.text, got, err, c.print)
		}
	}
}

func TestStatusRange(t *testing.T) {
	t.Parallel()
	r := StatusRange{200, 299}
	if !r.Contains(200) || !r.Contains(299) || r.Contains(300) || r.Contains(199) {
		t.Error("2xx is 200 to 299")
	}
	b, err := json.Marshal([]StatusRange{r, {404, 404}})
	if err != nil || string(b) != `["2xx",404]` {
		t.Errorf("%s, %v", b, err)
	}
}
