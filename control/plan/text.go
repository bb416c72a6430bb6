package plan

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

// lineMax is the width up to which settings share a line.
const lineMax = 110

// WriteText writes what is in force for people.
func (f InForce) WriteText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "version %s, at %s\n", f.Version, f.At.Format(time.RFC3339))
	members(&b, 2, f.Settings)
	fmt.Fprintf(&b, "\nroutes, of which the first that matches is taken:\n")
	for i, r := range f.Routes {
		methods := strings.Join(r.Methods, ",")
		if methods == "" {
			methods = "any method"
		}
		fmt.Fprintf(&b, "%3d  %s: %s %s -> %s\n", i+1, r.Name, methods, r.Path, r.Target)
		if len(r.Filters) > 0 {
			fmt.Fprintf(&b, "%7sfilters: %s\n", "", strings.Join(r.Filters, ", "))
		}
		members(&b, 7, r.Settings)
	}
	for _, section := range []string{"services", "limits", "transactions"} {
		if len(f.Sections[section]) > 0 {
			fmt.Fprintf(&b, "\n%s:\n", section)
		}
		for _, e := range f.Sections[section] {
			fmt.Fprintf(&b, "  %s\n", e.Name)
			members(&b, 7, e.Settings)
		}
	}
	if len(f.Sales) > 0 {
		fmt.Fprintf(&b, "\nsales:\n")
	}
	for _, s := range f.Sales {
		fmt.Fprintf(&b, "  %s: %s", s.Name, s.State)
		if s.Next != "" {
			fmt.Fprintf(&b, ", %s at %s (in %s)", s.Next, s.Until.Format(time.RFC3339),
				s.Until.Sub(f.At).Round(time.Millisecond))
		}
		b.WriteByte('\n')
		members(&b, 7, s.Settings)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// members writes the settings of a section, each from its own line on.
func members(b *bytes.Buffer, indent int, of map[string]any) {
	for _, name := range sortedNames(of) {
		settings(b, name+":", indent, of[name])
	}
}

// settings writes a setting on one line where it fits, else its members below it.
func settings(b *bytes.Buffer, name string, indent int, v any) {
	line := fmt.Sprintf("%*s%s %s", indent, "", name, Inline(v))
	inner, isObject := v.(map[string]any)
	list, isList := v.([]any)
	switch {
	case len(line) <= lineMax || !isObject && !isList:
		b.WriteString(line + "\n")
	case isObject:
		fmt.Fprintf(b, "%*s%s\n", indent, "", name)
		members(b, indent+2, inner)
	default:
		fmt.Fprintf(b, "%*s%s\n", indent, "", name)
		for _, item := range list {
			settings(b, "-", indent+2, item)
		}
	}
}

// WriteChanges writes changes for people, with what each does.
func WriteChanges(w io.Writer, changes []Change) error {
	var b bytes.Buffer
	for _, c := range changes {
		b.WriteString(c.String())
		if c.Restart {
			b.WriteString("  (takes a restart)")
		}
		b.WriteByte('\n')
		for _, e := range c.Effects {
			fmt.Fprintf(&b, "    %s\n", e)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}
