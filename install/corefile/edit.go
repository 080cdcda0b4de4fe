package corefile

import (
	"slices"
	"strings"
)

// added says which words of Edit were not there before.
type added struct {
	zone               bool // on the line of the kubernetes plugin
	option             word // the zone in the plugin's option multicluster
	success, denial    word // the zone among those whose answers are not cached
	kubernetes, caches bool // the block that holds option or denial
}

// word is how a zone came into a line of a block.
type word struct{ zone, line bool } // as a further word; with the line itself

func (a added) any() bool { return a != added{} }

// splice replaces the bytes from start to end.
type splice struct {
	start, end int
	text       string
}

// Edit returns src with what it needs to serve zone from ServiceImports: the zone on
// the line of the kubernetes plugin, its option multicluster, and no caching of
// names that do not exist yet, or of any where those of the cluster itself are not
// cached. It returns src itself where all of that is there. An error is an UnusualError.
func Edit(src, zone string) (string, error) {
	out, _, err := edit(src, zone)
	return out, err
}

func edit(src, zone string) (string, added, error) {
	p, err := find(src, zone)
	if err != nil {
		return "", added{}, err
	}
	e := editor{src: src, zone: zone}
	if index(p.kubernetes.args, zone) < 0 {
		e.added.zone = true
		e.after(p.kubernetes.args[primary(p.kubernetes)], " "+zone)
	}
	e.option(p.kubernetes)
	if p.cache != nil {
		e.cache(p.cache)
	}
	return apply(src, e.splices), e.added, nil
}

type editor struct {
	src, zone string
	added     added
	splices   []splice
}

func (e *editor) after(t token, text string) {
	e.splices = append(e.splices, splice{t.end, t.end, text})
}

func (e *editor) option(k directive) {
	options := k.all("multicluster")
	if len(options) == 0 {
		e.added.option.line, e.added.kubernetes = true, k.block == nil
		e.line(k, "multicluster "+e.zone)
		return
	}
	if index(options[0].args, e.zone) < 0 {
		e.word(options[0], &e.added.option)
	}
}

func (e *editor) cache(c *directive) {
	if d, ok := disabled(c, "success"); ok && len(d.args) > 1 && !covers(d.args[1:], e.zone) {
		e.word(d, &e.added.success)
	}
	d, ok := disabled(c, "denial")
	switch {
	case !ok:
		e.added.denial.line, e.added.caches = true, c.block == nil
		e.line(*c, "disable denial "+e.zone)
	case len(d.args) > 1 && !covers(d.args[1:], e.zone): // without zones it is disabled for all
		e.word(d, &e.added.denial)
	}
}

// word adds the zone to a line that has zones already.
func (e *editor) word(d directive, w *word) {
	w.zone = true
	e.after(d.last(), " "+e.zone)
}

// line adds a line at the end of the directive's block, which it makes where there is none.
func (e *editor) line(d directive, text string) {
	newline := "\n"
	if strings.Contains(e.src, "\r\n") {
		newline = "\r\n"
	}
	outer := indent(e.src, d.name.start)
	if d.block == nil {
		e.after(d.last(), " {"+newline+outer+"    "+text+newline+outer+"}")
		return
	}
	inner := outer + "    "
	if n := len(d.directives); n > 0 {
		inner = indent(e.src, d.directives[n-1].name.start)
	}
	at := lineStart(e.src, d.close.start)
	e.splices = append(e.splices, splice{at, at, inner + text + newline})
}

// indent is what stands before the offset on its line.
func indent(src string, at int) string { return src[lineStart(src, at):at] }

func lineStart(src string, at int) int { return strings.LastIndexByte(src[:at], '\n') + 1 }

// apply returns src with all splices, which do not overlap. Those at one place
// come in their order.
func apply(src string, splices []splice) string {
	slices.SortStableFunc(splices, func(a, b splice) int { return a.start - b.start })
	for _, s := range slices.Backward(splices) {
		src = src[:s.start] + s.text + src[s.end:]
	}
	return src
}
