package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/drill"
)

//go:embed page.html
var pageText string

// page is what the template shows.
type page struct {
	drill.Result
	Title    string
	Facts    []string
	Wants    []string
	Rows     []row
	Requests template.HTML // charts: inline SVG
	Latency  template.HTML
	Legend   []series
}

// row is one phase.
type row struct {
	Name, Seconds, Requests, Errors, P50, P99, Wrong, By string
}

// HTML writes one page that needs nothing else: no script, no font, no picture from elsewhere.
func HTML(w io.Writer, d drill.Result) error {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	c := newChart(d)
	p := page{
		Result: d, Title: strings.TrimSpace("Drill " + d.Scenario + " of " + d.Service), Facts: facts(d), Wants: d.Objectives.Lines(),
		Requests: template.HTML(c.requests()), Latency: template.HTML(c.latency()), Legend: c.series, //nolint:gosec // made of numbers, and names that are escaped
	}
	for _, ph := range d.Phases {
		p.Rows = append(p.Rows, row{
			ph.Name, fmt.Sprintf("%.1f", ph.Seconds), fmt.Sprint(ph.Requests), fmt.Sprint(ph.Failed),
			fmt.Sprintf("%.1f", ph.Latency.P50), fmt.Sprintf("%.1f", ph.Latency.P99), fmt.Sprint(ph.Wrong), shares(ph),
		})
	}
	if err := t.Execute(w, p); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// At is when the drill began.
func (p page) At() string { return p.Started.UTC().Format(time.RFC3339) }

// Passed reports whether all objectives were met.
func (p page) Passed() bool { return p.Verdict == drill.Pass }
