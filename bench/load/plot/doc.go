// Package plot draws charts as inline SVG for the reports of the load tools, so that a report is one
// file that needs nothing else.
//
// A [Lines] chart shows series over one horizontal axis, as lines or stacked areas; [Bars] shows one
// figure of several contenders. Both return [html/template.HTML] in which every text from outside is
// escaped. The style sheet of package measure ("style.html") gives text and grid their look; without
// it the charts are still readable.
//
// A chart draws at most some hundred points a series well. [Thin] reduces a longer one.
package plot
