package report

import (
	"fmt"
	"html"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/drill"
)

// Sizes of a chart, in its own units.
const (
	width, height            = 960, 240
	left, right, top, bottom = 52, 12, 20, 26
)

// series is one colour of a chart.
type series struct{ Name, Colour string }

// Colours that differ also for those who do not see red and green apart.
const colourFailed = "#b3261e"

func colours() []string {
	return []string{"#2f6db5", "#7fb069", "#8a63b0", "#3aa6a0", "#b88a2f", "#6b7a8c"}
}

// chart draws the timeline of a drill.
type chart struct {
	points         []drill.Point
	broken, mended float64 // seconds from the start
	end            float64
	series         []series // clusters by name, others, failures
	named          bool
}

func newChart(d drill.Result) chart {
	c := chart{points: d.Timeline, broken: d.Broken.Sub(d.Started).Seconds(), mended: d.Restored.Sub(d.Started).Seconds(), end: max(d.Ended.Sub(d.Started).Seconds(), drill.Bin.Seconds())}
	names := map[string]bool{}
	for _, p := range c.points {
		for name := range p.Clusters {
			names[name] = true
		}
	}
	c.named = len(names) > 0
	for i, name := range slices.Sorted(maps.Keys(names)) {
		c.series = append(c.series, series{name, colours()[i%len(colours())]})
	}
	if !c.named {
		c.series = append(c.series, series{"answered", colours()[0]})
	}
	c.series = append(c.series, series{"failed", colourFailed})
	return c
}

// count is how many requests of p belong to the series.
func (c chart) count(p drill.Point, s series) int {
	switch {
	case s.Colour == colourFailed:
		return p.Failed
	case !c.named:
		return p.OK
	}
	return p.Clusters[s.Name]
}

// requests draws a stacked bar for each bin.
func (c chart) requests() string {
	most := 0.0
	for _, p := range c.points {
		most = max(most, perSecond(p.OK+p.Failed))
	}
	limit := nice(most)
	var b strings.Builder
	c.open(&b, "Requests per second", limit)
	for _, p := range c.points {
		base := 0.0
		for _, s := range c.series {
			n := perSecond(c.count(p, s))
			if n == 0 {
				continue
			}
			x, y, y0 := c.x(p.Seconds), c.y(base+n, limit), c.y(base, limit)
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s</title></rect>`+"\n",
				x, y, c.x(p.Seconds+drill.Bin.Seconds())-x-0.5, y0-y, s.Colour, html.EscapeString(fmt.Sprintf("%.1f s: %s %.0f/s", p.Seconds, s.Name, n)))
			base += n
		}
	}
	c.close(&b)
	return b.String()
}

// latency draws a line for each percentile; it is broken where nothing was answered.
func (c chart) latency() string {
	most := 0.0
	for _, p := range c.points {
		most = max(most, p.P99)
	}
	limit := nice(most)
	var b strings.Builder
	c.open(&b, "Latency in milliseconds", limit)
	c.line(&b, "#c77d0a", limit, func(p drill.Point) float64 { return p.P99 })
	c.line(&b, "#2f6db5", limit, func(p drill.Point) float64 { return p.P50 })
	c.close(&b)
	return b.String()
}

func (c chart) line(b *strings.Builder, colour string, limit float64, value func(drill.Point) float64) {
	var d strings.Builder
	pen := "M"
	for _, p := range c.points {
		if p.OK == 0 {
			pen = "M"
			continue
		}
		fmt.Fprintf(&d, "%s%.1f %.1f ", pen, c.x(p.Seconds+drill.Bin.Seconds()/2), c.y(value(p), limit))
		pen = "L"
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.TrimSpace(d.String()), colour)
}

// open draws what lies behind: the time that something was broken, the lines and their numbers.
func (c chart) open(b *strings.Builder, label string, limit float64) {
	fmt.Fprintf(b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", width, height, label)
	fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#f6e3e1"/>`+"\n", c.x(c.broken), top, c.x(c.mended)-c.x(c.broken), height-top-bottom)
	for i := range 5 {
		v := limit * float64(i) / 4
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#dde3ea"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n", left, c.y(v, limit), width-right, left-6, c.y(v, limit)+4, v)
	}
	step := max(1, math.Ceil(c.end/12))
	for at := 0.0; at <= c.end; at += step {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%g s</text>`+"\n", c.x(at), height-8, at)
	}
}

// close draws the marks, and ends the picture.
func (c chart) close(b *strings.Builder) {
	for _, m := range []struct {
		at   float64
		text string
	}{{c.broken, "break"}, {c.mended, "restore"}} {
		fmt.Fprintf(b, `<path d="M%.1f %dV%d" stroke="#b3261e" stroke-dasharray="4 3"/><text x="%.1f" y="%d">%s</text>`+"\n", c.x(m.at), top, height-bottom, c.x(m.at)+3, top-6, m.text)
	}
	b.WriteString("</svg>")
}

func (c chart) x(seconds float64) float64 {
	return left + (width-left-right)*min(1, max(0, seconds/c.end))
}

func (c chart) y(v, limit float64) float64 {
	return height - bottom - (height-top-bottom)*min(1, max(0, v/limit))
}

func perSecond(n int) float64 { return float64(n) / drill.Bin.Seconds() }

// nice returns the least of 1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8 and their tenfold, hundredfold, ... that is not less than v.
func nice(v float64) float64 {
	for unit := 1.0; ; unit *= 10 {
		for _, f := range []float64{1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8} {
			if f*unit >= v {
				return f * unit
			}
		}
	}
}
