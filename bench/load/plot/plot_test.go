package plot

import (
	"encoding/xml"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// elements parses the drawing and counts its elements by name.
func elements(t *testing.T, drawing template.HTML) map[string]int {
	t.Helper()
	found := map[string]int{}
	d := xml.NewDecoder(strings.NewReader(string(drawing)))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, drawing)
		}
		if e, ok := token.(xml.StartElement); ok {
			found[e.Name.Local]++
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("%s has %s=%q", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

func TestLinesDrawEverySeries(t *testing.T) {
	x := []float64{0, 1, 2, 3}
	gap := []float64{1, math.NaN(), 3, 4}
	tests := []struct {
		name                string
		chart               Lines
		polylines, polygons int
	}{
		{"nothing", Lines{}, 0, 0},
		{"two lines", Lines{Series: []Series{{Name: "a", X: x, Y: x}, {Name: "b", X: x, Y: x}}}, 2, 0},
		{"a gap", Lines{Series: []Series{{Name: "a", X: x, Y: gap}}}, 2, 0},
		{"all zero", Lines{Series: []Series{{Name: "a", X: x, Y: make([]float64, 4)}}}, 1, 0},
		{"logarithmic", Lines{Log: true, Series: []Series{{Name: "a", X: x, Y: []float64{0, 3, 900, 20}}}}, 1, 0},
		{"logarithmic, all zero", Lines{Log: true, Series: []Series{{Name: "a", X: x, Y: make([]float64, 4)}}}, 1, 0},
		{"stacked", Lines{Stack: true, Series: []Series{{Name: "a", X: x, Y: x}, {Name: "b", X: x, Y: gap}}}, 0, 2},
		{"stacked, the second shorter",
			Lines{Stack: true, Series: []Series{{Name: "a", X: x, Y: x}, {Name: "b", X: x[:1], Y: x[:1]}}}, 0, 2},
		{"one point", Lines{Series: []Series{{Name: "a", X: x[:1], Y: x[:1]}}}, 1, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			found := elements(t, test.chart.SVG())
			if found["polyline"] != test.polylines || found["polygon"] != test.polygons || found["svg"] != 1 {
				t.Errorf("got %v, want %d lines and %d areas", found, test.polylines, test.polygons)
			}
		})
	}
}

func TestTextFromOutsideIsEscaped(t *testing.T) {
	bad := `<script>"&'`
	x := []float64{0, 1}
	lines := Lines{Title: bad, XUnit: bad, YUnit: bad, Spans: []Span{{0, 1, bad}}, Levels: []Level{{1, bad}},
		Series: []Series{{Name: bad, Colour: bad, X: x, Y: x}}}
	bars := Bars{Title: bad, Unit: bad, Bars: []Bar{{Name: bad, Value: 1}}}
	for _, drawing := range []template.HTML{lines.SVG(), bars.SVG()} {
		if elements(t, drawing)["script"] != 0 {
			t.Errorf("not escaped: %s", drawing)
		}
	}
}

func TestBarsDrawOneForEach(t *testing.T) {
	c := Bars{Title: "goodput", Bound: 1, Bars: []Bar{{"ours", 2, true}, {"none", 0, false}, {"odd", -1, false}}}
	if found := elements(t, c.SVG()); found["rect"] != 3 || found["line"] != 1 {
		t.Errorf("got %v, want 3 bars and 1 bound", found)
	}
	if found := elements(t, (&Bars{}).SVG()); found["rect"] != 0 {
		t.Errorf("got %v, want no bar", found)
	}
}

func TestTicksAreRoundNumbers(t *testing.T) {
	tests := []struct {
		most float64
		n    int
		want []float64
	}{
		{0, 4, []float64{0}},
		{math.NaN(), 4, []float64{0}},
		{1, 4, []float64{0, .5, 1}},
		{55, 8, []float64{0, 10, 20, 30, 40, 50}},
		{320, 4, []float64{0, 100, 200, 300}},
		{0.6, 8, []float64{0, .1, .2, .3, .4, .5, .6}},
	}
	for _, test := range tests {
		if got := ticks(test.most, test.n); !slices.Equal(got, test.want) {
			t.Errorf("ticks(%v, %d) = %v, want %v", test.most, test.n, got, test.want)
		}
	}
}

func TestThinKeepsThePeak(t *testing.T) {
	s := Series{Name: "a"}
	for i := range 1000 {
		s.X, s.Y = append(s.X, float64(i)), append(s.Y, 1)
	}
	s.Y[137] = 9
	s.Y[0] = math.NaN()
	thin := Thin(s, 100)
	if len(thin.X) != 100 || len(thin.Y) != 100 || slices.Max(thin.Y[1:]) != 9 || math.IsNaN(thin.Y[0]) {
		t.Errorf("got %d points, greatest %v, first %v", len(thin.Y), slices.Max(thin.Y[1:]), thin.Y[0])
	}
	if short := Thin(s, 2000); len(short.Y) != 1000 {
		t.Errorf("a short series was changed to %d points", len(short.Y))
	}
}
