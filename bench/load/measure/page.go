package measure

import (
	"embed"
	"html/template"
	"io/fs"
)

//go:embed templates
var templateFiles embed.FS

var pages = Pages(templateFiles)

// Pages returns the HTML templates of a folder "templates", which may refer to "style.html" of this
// package.
func Pages(files fs.FS) *template.Template {
	t := template.Must(template.ParseFS(templateFiles, "templates/style.html"))
	return template.Must(t.ParseFS(files, "templates/*.html"))
}

// MarkRow is a mark as a page shows it.
type MarkRow struct {
	Mark
	Found, Verdict, Class string
}

// MarkRows returns the marks as a page shows them.
func MarkRows(marks []Mark) []MarkRow {
	var rows []MarkRow
	for _, m := range marks {
		class := "missed"
		if m.Met {
			class = "met"
		} else if m.Got == nil || m.Why != "" {
			class = ""
		}
		rows = append(rows, MarkRow{m, m.Found(), m.Verdict(), class})
	}
	return rows
}
